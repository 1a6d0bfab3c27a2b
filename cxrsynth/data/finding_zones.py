"""Images whose captions name findings, with the zones where these lie: what the pathology adapter learns from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cxrsynth.data.config import AugmentConfig
from cxrsynth.data.dataset import read_images, trainable
from cxrsynth.data.dataset import rows as read_rows
from cxrsynth.data.latents import warp
from cxrsynth.data.places import Place, PlaceConfig, find
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.domain.lexicon import MARKER, found, is_normal, words_on_findings
from cxrsynth.encoding import npz
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.files import write_atomic
from cxrsynth.nets.autoencoder import encode
from cxrsynth.nets.base import Base
from cxrsynth.nets.segmenter import Segmenter
from cxrsynth.records import Row


class ZoneConfig(PlaceConfig, Protocol):
    """How often each image is encoded, and how far its tone differs; see the training of the pathology adapter."""

    @property
    def variants(self) -> int: ...
    @property
    def gamma(self) -> float: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True, slots=True)
class ZonedImages:
    """Images with regions to learn from.

    Attributes:
        rows: of N images.
        masks: (N, H, W) uint8 ids of `cxrsynth.domain.anatomy.CLASSES`.
        latents: (V, N, C, h, w) float32, in V tones.
        places: finding -> regions; the empty finding has the clear ones.
    """

    rows: list[Row]
    masks: np.ndarray
    latents: Tensor
    places: dict[str, list[Place]]


def fitting(data: Path, config: PlaceConfig) -> list[Row]:
    """Training images of adults that are normal or may show a finding."""

    def fits(row: Row) -> bool:
        text = words_on_findings(row)
        asked = any(found(text, label) for labels in config.findings.values() for label in labels)
        return trainable(row) and row.get("population") != "pediatric" and (asked or is_normal(text))

    return read_rows(data, ("train",), fits)


def look_at(
    data: Path, rows: list[Row], base: Base, labeller: Segmenter, config: ZoneConfig, cache: Path, digest: str
) -> ZonedImages:
    """Anatomy, latents and places of the images; read once and kept in ``cache``.

    Raises:
        MismatchError: the segmenter does not know lungs and heart.
        UsageError: the images have another size than the model's.
    """
    missing = [name for name in CLASSES if name not in labeller.classes]
    if missing:
        raise MismatchError(
            f"the segmenter knows {', '.join(labeller.classes)}, not {missing[0]}", "train it on all three"
        )
    images = read_images(data, rows)
    if images.shape[1:] != (base.size, base.size):
        raise UsageError(
            f"the images have {images.shape[2]}x{images.shape[1]} pixels, the model sees {base.size}x{base.size}",
            f"ingest them with --size {base.size}",
        )
    kept: dict[str, np.ndarray] = {}
    if cache.exists():
        with np.load(cache) as stored:
            kept = {name: stored[name] for name in stored.files} if str(stored["digest"]) == digest else {}
    if not kept:
        masks = np.zeros_like(images)
        for mask, seen in zip(masks, labeller(list(images)), strict=True):
            for name, number in CLASSES.items():
                mask[seen == labeller.classes.index(name) + 1] = number
        rng = np.random.default_rng(config.seed)
        tone = AugmentConfig(shift=0, scale=0, rotate=0, gamma=config.gamma)
        latents = []
        for variant in range(config.variants):
            toned = images if not variant else np.stack([warp(image, [], tone, rng)[0] for image in images])
            latents.append(encode(base.vae, toned).numpy().astype(np.float16))
        kept = {"digest": np.array(digest), "masks": masks, "latents": np.stack(latents)}
        write_atomic(cache, npz(kept))
    places: dict[str, list[Place]] = {}
    for place in find(rows, images, kept["masks"], config):
        places.setdefault(place.finding, []).append(place)
    return ZonedImages(rows, kept["masks"], torch.from_numpy(kept["latents"]).float(), places)


def sentence(row: Row, place: Place, plain: bool) -> str:
    """What the model reads to a region: the image's own caption with the finding and its place, or without any."""
    head, _, own = str(row["prompt"]).partition(MARKER)
    if plain:
        head = f"Frontal chest X-ray, {row.get('view') or 'PA'} view. "
    return f"{head.rstrip()} {MARKER} " + (f"{place.finding} in the {place.region}." if place.finding else own.strip())
