"""A mask head: a small head on the features of a finished model, fitted on a few labelled images.

DatasetDM (Wu et al., NeurIPS 2023) fits one on under 1 % of the labels. The model itself is not touched, and its
features are computed once: a head is ready in minutes on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cxrsynth.alone import alone
from cxrsynth.data.label_maps import with_masks
from cxrsynth.encoding import dumps, sha256
from cxrsynth.generate.features import Seen, look_at
from cxrsynth.nets import auxiliary
from cxrsynth.nets.losses import coverage_loss
from cxrsynth.nets.mask_head import Head, as_input
from cxrsynth.store import Store
from cxrsynth.train.curves import Progress
from cxrsynth.train.device import accelerate
from cxrsynth.train.loop import train
from cxrsynth.train.loop_config import FREE
from cxrsynth.train.task import Figures, Turn
from cxrsynth.train.tasks.mask_head.config import MaskHeadConfig
from cxrsynth.weights import Weights


@dataclass(frozen=True, slots=True)
class Batch:
    """What an update sees.

    Attributes:
        features: (B, C, h, w) float32 each.
        images: (B, 1, H, W) float32, with a tone of their own.
        masks: (B, H, W) uint8.
    """

    features: list[Tensor]
    images: Tensor
    masks: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch([one.to(device) for one in self.features], self.images.to(device), self.masks.to(device))


class MaskHeadTask:
    """See `cxrsynth.train.task.Task`."""

    score, shown = "", ("loss",)

    def __init__(self, head: Head, seen: Seen, config: MaskHeadConfig, stem: str, identity: str) -> None:
        self.seen, self.config, self.stem, self.identity = seen, config, stem, identity
        self.turns = [Turn("loss", head, self.step)]

    def batch(self, update: int, rng: np.random.Generator) -> Batch:
        """Random images with another contrast and brightness, some channels of their features dropped."""
        seen, config = self.seen, self.config
        which = rng.integers(len(seen.images), size=config.batch)
        features = [level[which].float() for level in seen.features]
        if config.dropout:
            kept = [rng.random((len(which), level.shape[1], 1, 1)) >= config.dropout for level in features]
            features = [
                level * torch.from_numpy(mask).to(level) / (1 - config.dropout)
                for level, mask in zip(features, kept, strict=True)
            ]
        contrast, brightness = rng.uniform(-config.tone, config.tone, (2, len(which), 1, 1, 1)).astype(np.float32)
        images = as_input(seen.images[which], torch.device("cpu"))
        images = images * torch.from_numpy(1 + contrast) + torch.from_numpy(brightness)
        return Batch(features, images, torch.from_numpy(seen.masks[which]))

    def step(self, head: nn.Module, batch: Batch, update: int) -> tuple[Tensor, Figures]:
        """Cross-entropy and soft Dice of the shares that classes cover, see `coverage_loss`."""
        return coverage_loss(head(batch.features, batch.images).float(), batch.masks), {}

    def look(self, network: nn.Module, update: int) -> Figures:
        """Nothing: all labelled images are learned from, since they are few."""
        return {}


@alone
def train_mask_head(
    data: Path,
    out: Path,
    weights: Weights,
    config: MaskHeadConfig,
    images: int | None = None,
    device: str = "auto",
    on_step: Progress | None = None,
) -> dict[str, Any]:
    """Fit a head on reference masks of the training split and write it to ``out``.

    Running the same command again goes on at the last checkpoint, with the same result as without the break; the
    features, a minute or two of work, are computed again.

    Args:
        data: ingested images; only those of split ``train`` whose masks may be trained on are read.
        out: ``.safetensors`` file.
        weights: the model whose features are read.
        images: how many labelled images; all that there are by default.

    Returns:
        What came of it: file, sha256, number of labelled images, classes, loss.

    Raises:
        UsageError: too few labelled images, or ``out`` does not end in ``.safetensors``.
        MismatchError: the checkpoint beside ``out`` is of other images, another model or config.
    """
    auxiliary.target(out, "mask_head")
    accelerator = accelerate(device, config.precision)
    chosen = with_masks(data, config.classes, images, config.seed)
    batches = -(-len(chosen) * config.variants // config.batch)

    def tell(done: int, values: dict[str, float]) -> None:
        if on_step:
            on_step(done, batches + config.updates, values)

    how = (config.classes, config.timesteps, config.variants, config.augment, config.batch, config.seed)
    seen = look_at(Store(data), chosen, weights.path, *how, accelerator.device, lambda done: tell(done, {}))
    torch.manual_seed(config.seed)
    head = Head([one.shape[1] for one in seen.features], len(config.classes), config.width)
    keys = [row["key"] for row in chosen]
    task = MaskHeadTask(head, seen, config, out.stem, sha256(dumps([config.digest(*FREE), keys, weights.digest])))
    done = train(
        task, out.parent, config, accelerator, lambda step, _, found: tell(batches + step, {"loss": found["loss"]})
    )
    result: dict[str, Any] = {}
    if accelerator.is_main_process:
        result = finish(out, head, config, keys, weights)
        result["loss"] = round(float(np.mean([line["loss"] for line in done.curves.read()][-50:])), 4)
    accelerator.wait_for_everyone()
    return result


def finish(out: Path, head: Head, config: MaskHeadConfig, keys: list[str], weights: Weights) -> dict[str, Any]:
    """Write the head with what it says of itself."""
    result = {"images": len(keys), "classes": list(config.classes), "model": weights.digest}
    training = {"recipe": config.model_dump(mode="json"), "keys": keys}
    tensors = {name: value.half() for name, value in head.state_dict().items()}
    return {**auxiliary.write(out, "head", head.config, tensors, {**result, "training": training}), **result}
