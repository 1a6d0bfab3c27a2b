"""A mask head: a small head on the features of a finished model, fitted on a few labelled images.

DatasetDM (Wu et al., NeurIPS 2023) fits one on under 1 % of the labels. The model itself is not touched, and its
features are computed once: a head is ready in minutes on a CPU.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from cxrsynth.data.dataset import groundable
from cxrsynth.data.dataset import rows as read_rows
from cxrsynth.data.latents import warp
from cxrsynth.errors import UsageError
from cxrsynth.generate.answers import look
from cxrsynth.generate.reader import Reader
from cxrsynth.generate.sampler import Latent
from cxrsynth.nets.mask_head import Head, as_input, observe_features
from cxrsynth.recipe import AttentionSpec, Sampler
from cxrsynth.store import Row, Store, dumps, sha256, write_atomic
from cxrsynth.train.curves import Progress
from cxrsynth.train.device import accelerate
from cxrsynth.train.loop import Figures, Turn, train
from cxrsynth.train.loop_config import FREE
from cxrsynth.train.tasks.mask_head.config import MaskHeadConfig
from cxrsynth.weights import AUXILIARY, Weights

UNLABELLED = 255


@dataclass(frozen=True, slots=True)
class Seen:
    """Images as a head sees them, V variants of N images.

    Attributes:
        features: (V * N, C, h, w) float16 each, in the order of `observe_features`.
        pictures: (V * N, H, W) uint8.
        masks: (V * N, H, W) uint8, 0 background, c + 1 class c, 255 unlabelled.
    """

    features: list[Tensor]
    pictures: np.ndarray
    masks: np.ndarray


@dataclass(frozen=True, slots=True)
class Batch:
    """What an update sees.

    Attributes:
        features: (B, C, h, w) float32 each.
        pictures: (B, 1, H, W) float32, with a tone of their own.
        masks: (B, H, W) uint8.
    """

    features: list[Tensor]
    pictures: Tensor
    masks: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch([one.to(device) for one in self.features], self.pictures.to(device), self.masks.to(device))


class MaskHeadTask:
    """See `cxrsynth.train.loop.Task`."""

    score, shown = "", ("loss",)

    def __init__(self, head: Head, seen: Seen, config: MaskHeadConfig, stem: str, identity: str) -> None:
        self.seen, self.config, self.stem, self.identity = seen, config, stem, identity
        self.turns = [Turn("loss", head, self.step)]

    def batch(self, update: int, rng: np.random.Generator) -> Batch:
        """Random images with another contrast and brightness, some channels of their features dropped."""
        seen, config = self.seen, self.config
        which = rng.integers(len(seen.pictures), size=config.batch)
        features = [level[which].float() for level in seen.features]
        if config.dropout:
            kept = [rng.random((len(which), level.shape[1], 1, 1)) >= config.dropout for level in features]
            features = [
                level * torch.from_numpy(mask).to(level) / (1 - config.dropout)
                for level, mask in zip(features, kept, strict=True)
            ]
        contrast, brightness = rng.uniform(-config.tone, config.tone, (2, len(which), 1, 1, 1)).astype(np.float32)
        pictures = as_input(seen.pictures[which], torch.device("cpu"))
        pictures = pictures * torch.from_numpy(1 + contrast) + torch.from_numpy(brightness)
        return Batch(features, pictures, torch.from_numpy(seen.masks[which]))

    def step(self, head: nn.Module, batch: Batch, update: int) -> tuple[Tensor, Figures]:
        """The loss of `head_loss`."""
        return head_loss(head(batch.features, batch.pictures).float(), batch.masks), {}

    def look(self, network: nn.Module, update: int) -> Figures:
        """Nothing: all labelled images are learned from, since they are few."""
        return {}


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
    if out.suffix != ".safetensors":
        raise UsageError(f"{out} does not end in .safetensors", "for example: -o mask_head.safetensors")
    accelerator = accelerate(device, config.precision)
    chosen = choose(data, config, images)
    batches = -(-len(chosen) * config.variants // config.batch)

    def tell(done: int, values: dict[str, float]) -> None:
        if on_step:
            on_step(done, batches + config.updates, values)

    seen = look_at(data, chosen, weights, config, accelerator.device, tell)
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
    told = {"format": AUXILIARY["head"].format, "net": head.config, **result, "training": training}
    tensors = {name: value.detach().cpu().half().contiguous() for name, value in head.state_dict().items()}
    data = save(tensors, {"cxrsynth": json.dumps(told, sort_keys=True)})
    write_atomic(out, data)
    return {"weights": str(out), "sha256": sha256(data), "bytes": len(data), **result}


def choose(data: Path, config: MaskHeadConfig, images: int | None) -> list[Row]:
    """The images to fit on: those with reference masks of all classes, chosen at random if fewer are wanted.

    Raises:
        UsageError: there are not as many.
    """
    ids = Store(data).classes()

    def fits(row: Row) -> bool:
        return groundable(row) and set(config.classes) <= set(row.get("mask_classes") or ids)

    found = read_rows(data, ("train",), fits)
    if images is None:
        return found
    if images > len(found):
        raise UsageError(f"{images} images are asked for, {data} has {len(found)} that fit", f"--images {len(found)}")
    picked = np.random.default_rng(config.seed).permutation(len(found))[:images]
    return [found[i] for i in sorted(picked.tolist())]


@torch.inference_mode()
def look_at(
    data: Path, rows: list[Row], weights: Weights, config: MaskHeadConfig, device: torch.device, tell: Any
) -> Seen:
    """Pass every variant of every image through the model once, each variant with its own noise."""
    store = Store(data)
    ids = store.classes()
    latent = Latent(weights.path, Sampler(), AttentionSpec(), device)
    reader = Reader(latent, list(config.classes))
    rng = np.random.default_rng(config.seed)
    pictures, masks = [], []
    for variant in range(config.variants):
        for row in rows:
            image, drawn = store.load_image(row), store.load_mask(row)
            assert drawn is not None  # groundable
            ours = np.where(drawn == UNLABELLED, UNLABELLED, 0).astype(np.uint8)
            for c, name in enumerate(config.classes):
                ours[drawn == ids[name]] = c + 1
            if variant:
                image, (moved,) = warp(image, [ours], config.augment, rng)
                ours = ours if moved is None else moved
            if image.shape != reader.size:
                raise UsageError(
                    f"{row['key']} has {image.shape[1]}x{image.shape[0]} pixels, the model sees "
                    f"{reader.size[1]}x{reader.size[0]}",
                    f"ingest the images with --size {reader.size[0]}",
                )
            pictures.append(image)
            masks.append(ours)
    images = np.stack(pictures)
    kept: list[list[Tensor]] = []
    for number, begin in enumerate(range(0, len(images), config.batch)):
        part = images[begin : begin + config.batch]
        clean = reader.encode(part)
        generators = [torch.Generator().manual_seed(config.seed + begin + i) for i in range(len(part))]
        t = config.timesteps[number % len(config.timesteps)]
        with observe_features(latent.model.denoiser) as features:
            look(latent.model, clean, reader.words, generators, (t,))
            kept.append([one.cpu().half() for one in features])
        tell(number + 1, {})
    return Seen([torch.cat(level) for level in zip(*kept, strict=True)], images, np.stack(masks))


def head_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy and soft Dice on the grid of the head, against the share of each cell that a class covers.

    Cells that nobody labelled do not count.

    Args:
        logits: (B, K + 1, h, w) float32.
        masks: (B, H, W) uint8.
    """
    planes = torch.stack([masks == value for value in range(logits.shape[1])], dim=1).float()
    grid = (logits.shape[-2], logits.shape[-1])
    truth = F.adaptive_avg_pool2d(planes, grid)  # sums to less than 1 where pixels are unlabelled
    known = truth.sum(dim=1, keepdim=True)
    prob = logits.softmax(dim=1) * known
    both, sizes = (prob * truth).sum(dim=(0, 2, 3)), (prob + truth).sum(dim=(0, 2, 3))
    dice = (2 * both[1:] / sizes[1:].clamp_min(1)).mean()
    return -(truth * logits.log_softmax(dim=1)).sum() / known.sum().clamp_min(1) + 1 - dice
