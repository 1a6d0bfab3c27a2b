"""What the denoiser of a model computes on the way for labelled images: features that a mask head learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cxrsynth.data.config import AugmentConfig
from cxrsynth.data.latents import warp
from cxrsynth.errors import UsageError
from cxrsynth.generate.answers import look
from cxrsynth.generate.reader import Reader
from cxrsynth.generate.sampler import Latent
from cxrsynth.nets.mask_head import observe_features
from cxrsynth.recipe import AttentionSpec, Sampler
from cxrsynth.records import IGNORE, Row
from cxrsynth.store import Store


@dataclass(frozen=True, slots=True)
class Seen:
    """Images as a head sees them, V variants of N images.

    Attributes:
        features: (V * N, C, h, w) float16 each, in the order of `observe_features`.
        images: (V * N, H, W) uint8.
        masks: (V * N, H, W) uint8, 0 background, c + 1 class c, 255 unlabelled.
    """

    features: list[Tensor]
    images: np.ndarray
    masks: np.ndarray


@torch.inference_mode()
def look_at(
    store: Store,
    rows: list[Row],
    model: Path,
    classes: Sequence[str],
    timesteps: Sequence[int],
    variants: int,
    augment: AugmentConfig,
    batch: int,
    seed: int,
    device: torch.device,
    tell: Callable[[int], None],
) -> Seen:
    """Pass every variant of every labelled image through the model once, each variant with its own noise.

    Args:
        timesteps: noise of the batches, in turn.
        variants: copies of each image, all but the first changed as ``augment`` says.
        tell: told the number of finished batches.

    Raises:
        UsageError: an image has another size than the model's.
    """
    ids = store.classes()
    latent = Latent(model, Sampler(), AttentionSpec(), device)
    reader = Reader(latent, {name: name for name in classes})
    rng = np.random.default_rng(seed)
    pictures, masks = [], []
    for variant in range(variants):
        for row in rows:
            image, stored = store.load_image(row), store.load_mask(row)
            assert stored is not None  # groundable
            ours = np.where(stored == IGNORE, IGNORE, 0).astype(np.uint8)
            for c, name in enumerate(classes):
                ours[stored == ids[name]] = c + 1
            if variant:
                image, (moved,) = warp(image, [ours], augment, rng)
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
    for number, begin in enumerate(range(0, len(images), batch)):
        part = images[begin : begin + batch]
        clean = reader.encode(part)
        generators = [torch.Generator().manual_seed(seed + begin + i) for i in range(len(part))]
        t = timesteps[number % len(timesteps)]
        with observe_features(latent.model.denoiser) as features:
            look(latent.model, clean, reader.words, generators, (t,))
            kept.append([one.cpu().half() for one in features])
        tell(number + 1)
    return Seen([torch.cat(level) for level in zip(*kept, strict=True)], images, np.stack(masks))
