"""Losses: of images, of label maps, of several labels; what is unlabelled or unknown does not count."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor, nn

from cxrsynth.records import IGNORE


def gradient_difference(first: Tensor, second: Tensor, scales: int = 3) -> Tensor:
    """Mean difference of the horizontal and vertical steps of two (B, 1, H, W) images at several scales.

    Without it thin things (ribs, vessels, letters) cost less than a slight change of tone and blur away.
    """
    difference = first - second
    loss = difference.new_zeros(())
    for _ in range(scales):
        loss = loss + difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
        difference = F.avg_pool2d(difference, 2)
    return loss / scales


class SegmentationLoss(nn.Module):
    """Soft Dice of the classes over the batch (V-Net, Milletari et al. 2016) plus cross-entropy, both without 255.

    Args:
        classes: without the background.
        dice: weight of the Dice loss.
        entropy: weight of the cross-entropy.
    """

    def __init__(self, classes: int, dice: float, entropy: float) -> None:
        super().__init__()
        self.dice = DiceLoss("multiclass", classes=list(range(1, classes + 1)), ignore_index=IGNORE)
        self.weights = (dice, entropy)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """(B, K + 1, S, S) float32, (B, S, S) int64 -> ()."""
        labelled = (target != IGNORE).sum().clamp(min=1)
        entropy = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum") / labelled
        total: Tensor = self.weights[0] * self.dice(logits, target) + self.weights[1] * entropy
        return total


class MaskedLoss(nn.Module):
    """Binary cross-entropy over what is known.

    Args:
        weights: (K,) weight of images that have the label.
    """

    weights: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """(B, K) float32, (B, K) float32 of 1, 0 and NaN -> ()."""
        known = ~torch.isnan(target)
        each = F.binary_cross_entropy_with_logits(
            logits, target.nan_to_num(), reduction="none", pos_weight=self.weights
        )
        return (each * known).sum() / known.sum().clamp(min=1)


def coverage_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy and soft Dice on a coarse grid, against the share of each cell that a class covers.

    Cells that nobody labelled do not count.

    Args:
        logits: (B, K + 1, h, w) float32.
        masks: (B, H, W) uint8, 255 where nobody labelled.
    """
    planes = torch.stack([masks == value for value in range(logits.shape[1])], dim=1).float()
    grid = (logits.shape[-2], logits.shape[-1])
    truth = F.adaptive_avg_pool2d(planes, grid)  # sums to less than 1 where pixels are unlabelled
    known = truth.sum(dim=1, keepdim=True)
    prob = logits.softmax(dim=1) * known
    both, sizes = (prob * truth).sum(dim=(0, 2, 3)), (prob + truth).sum(dim=(0, 2, 3))
    dice = (2 * both[1:] / sizes[1:].clamp_min(1)).mean()
    return -(truth * logits.log_softmax(dim=1)).sum() / known.sum().clamp_min(1) + 1 - dice


def affinity_loss(features: Tensor, seeds: Tensor, offsets: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
    """psa, equation 6: background pairs a quarter, foreground pairs a quarter, pairs of unlike classes a half.

    Args:
        features: (B, C, h, w) float32.
        seeds: (B, h, w) uint8; pairs with a disputed place do not count.
        offsets: (dy, dx) of the neighbours that make pairs.

    Returns:
        ``loss``, and the mean affinity of pairs of the ``same`` and of ``different`` classes; all scalars.
    """
    _, _, height, width = features.shape
    nothing = features.new_zeros(())
    sums = dict.fromkeys(("background", "foreground", "different", "a_same", "a_different"), nothing)
    counts = dict.fromkeys(("background", "foreground", "different"), nothing)
    for dy, dx in offsets:
        here = (..., slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        there = (..., slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
        distance = (features[here] - features[there]).abs().mean(dim=1)  # (B, h', w')
        a, b = seeds[here], seeds[there]
        known = (a != IGNORE) & (b != IGNORE)
        kinds = {"background": known & (a == b) & (a == 0), "foreground": known & (a == b) & (a != 0)}
        kinds["different"] = known & (a != b)
        affinity = torch.exp(-distance)
        for kind, pairs in kinds.items():
            cost = distance if kind != "different" else -torch.log(1 - affinity + 1e-5)
            sums[kind] = sums[kind] + (cost * pairs).sum()
            counts[kind] = counts[kind] + pairs.sum()
            which = "a_different" if kind == "different" else "a_same"
            sums[which] = sums[which] + (affinity.detach() * pairs).sum()
    mean = {kind: sums[kind] / counts[kind].clamp_min(1) for kind in counts}
    same = counts["background"] + counts["foreground"]
    return {
        "loss": mean["background"] / 4 + mean["foreground"] / 4 + mean["different"] / 2,
        "same": sums["a_same"] / same.clamp_min(1),
        "different": sums["a_different"] / counts["different"].clamp_min(1),
    }
