"""The images as the denoiser sees them: encoded once, with augmented variants, and kept in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from cxrsynth.data.config import AugmentConfig
from cxrsynth.data.dataset import groundable
from cxrsynth.data.patients import DatasetImage
from cxrsynth.data.square import Square
from cxrsynth.encoding import dumps, npz, sha256
from cxrsynth.errors import RecipeError
from cxrsynth.files import write_atomic
from cxrsynth.nets.autoencoder import encode, encoder_digest
from cxrsynth.nets.bundle import Vae
from cxrsynth.records import Row
from cxrsynth.store import Store

CHUNK = 64


@dataclass(frozen=True, slots=True)
class Latents:
    """Encoded images.

    Attributes:
        values: (M, C, h, w) float32, one entry per variant.
        image: (M,) index of the row each variant was made from.
        rows: the rows of the images.
        masked: (G,) positions in ``values`` that have masks.
        masks: (G, K, h, w) float32 in 0..1, share of each latent cell that the class covers; classes may overlap.
        known: (G, K) float32, 1 where somebody looked for the class, so that an empty mask means "absent".
    """

    values: Tensor
    image: np.ndarray
    rows: list[Row]
    masked: np.ndarray
    masks: Tensor
    known: Tensor


class Draws:
    """Which variants an update sees.

    Args:
        latents: the encoded images.
        shares: source -> share of the draws; all sources alike when empty.
        weight: (images,) how often an image is drawn among those of its source; all alike by default.
        anatomy: classes of ``latents.masks`` that are anatomy; the others are findings.
    """

    def __init__(
        self, latents: Latents, shares: dict[str, float], weight: np.ndarray | None = None, anatomy: int | None = None
    ) -> None:
        source = np.array([latents.rows[image].get("source", "") for image in latents.image])
        wanted = shares or dict.fromkeys(sorted(set(source)), 1.0)
        self.places = {name: np.flatnonzero(source == name) for name in wanted}
        empty = [name for name, places in self.places.items() if not len(places)]
        if empty:
            raise RecipeError(
                f"images.shares names sources without images: {', '.join(empty)}", "leave them out, or ingest them"
            )
        weights = np.array([wanted[name] for name in self.places], float)
        self.weights = weights / weights.sum()
        self.masked = latents.masked
        first = latents.known.shape[1] if anatomy is None else anatomy
        known = latents.known.numpy() > 0
        self.anatomy = np.flatnonzero(known[:, :first].all(axis=1) & ~known[:, first:].any(axis=1))
        self.findings = np.flatnonzero(known[:, first:].any(axis=1))
        self.chances: dict[str, np.ndarray] = {}
        if weight is not None:
            chance = weight[latents.image]
            never = [name for name, places in self.places.items() if not chance[places].sum()]
            if never:
                raise RecipeError(f"every image of {', '.join(never)} has weight 0", "give images.shares without them")
            self.chances = {name: chance[p] / chance[p].sum() for name, p in self.places.items()}

    def __call__(
        self, rng: np.random.Generator, batch: int, anatomy: int, findings: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions in ``values`` (batch,), and in ``masks`` (anatomy + findings,) of the first ones.

        Args:
            anatomy: images with reference masks of the anatomy; none where there are no such images.
            findings: images with masks of findings, likewise.
        """
        anatomy = min(anatomy, batch)
        pools = ((self.anatomy, anatomy), (self.findings, min(findings, batch - anatomy)))
        chosen = [rng.choice(pool, size=count) for pool, count in pools if len(pool)]
        first = np.concatenate([np.zeros(0, int), *chosen]).astype(int)
        names = list(self.places)
        rest = [self._one(names[i], rng) for i in rng.choice(len(names), size=batch - len(first), p=self.weights)]
        return np.concatenate([self.masked[first], np.array(rest, int)]).astype(int), first

    def _one(self, source: str, rng: np.random.Generator) -> int:
        places = self.places[source]
        if source in self.chances:
            return int(rng.choice(places, p=self.chances[source]))
        return int(places[rng.integers(len(places))])


def prepare(
    images: Sequence[DatasetImage],
    vae: Vae,
    config: AugmentConfig,
    names: Sequence[str],
    seed: int,
    folder: Path,
    square: Square | None = None,
) -> Latents:
    """Encode images, or read what an earlier call with the same images, autoencoder and settings left in ``folder``.

    Args:
        names: classes to keep masks of.
        square: how an image becomes the square that is encoded; as it is by default.
    """
    images = limit(images, config.images, seed)
    what: list[Any] = [
        encoder_digest(vae),
        config.model_dump(mode="json"),
        list(names),
        seed,
        [[image.row["key"], image.row["image"]] for image in images],
        sorted({receipt.fingerprint for root in {i.store.root for i in images} for receipt in Store(root).receipts()}),
    ]
    if square is not None:
        what.append(asdict(square))
    path = folder / f"latents-{sha256(dumps(what))[:16]}.npz"
    if not path.exists():
        write_atomic(path, npz(compute(images, vae, config, names, seed, square)))
    with np.load(path) as file:
        return Latents(
            torch.from_numpy(file["values"].astype(np.float32)),
            file["image"],
            [image.row for image in images],
            file["masked"],
            torch.from_numpy(file["masks"].astype(np.float32) / 255),
            torch.from_numpy(file["known"].astype(np.float32)),
        )


def limit(images: Sequence[DatasetImage], most: dict[str, int], seed: int) -> list[DatasetImage]:
    """At most ``most[source]`` images of a source, chosen at random; sources that are not named keep all."""
    rng = np.random.default_rng(seed)
    keep = np.ones(len(images), bool)
    for source, number in sorted(most.items()):
        places = np.array([i for i, image in enumerate(images) if image.row.get("source") == source], int)
        keep[rng.permutation(places)[number:]] = False
    return [image for image, kept in zip(images, keep, strict=True) if kept]


def compute(
    images: Sequence[DatasetImage],
    vae: Vae,
    config: AugmentConfig,
    names: Sequence[str],
    seed: int,
    square: Square | None = None,
) -> dict[str, np.ndarray]:
    """Arrays of the file: ``values`` float16, ``image``, ``masked`` int32, ``masks`` uint8 (255 = all), ``known``."""
    rng = np.random.default_rng(seed)
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    waiting: list[np.ndarray] = []
    values: list[np.ndarray] = []
    place: list[int] = []
    masked: list[int] = []
    masks: list[np.ndarray] = []
    known: list[list[bool]] = []
    for index, image in enumerate(images):
        x, layers = image.image(), class_layers(image, names)
        if square is not None:
            x, layers = on_square(square, image.row, x, layers)
        told = [layer is not None for layer in layers]
        for variant in range(config.variants.get(image.row.get("source", ""), config.default_variants)):
            picture, warped = (x, layers) if variant == 0 else warp(x, layers, config, rng)
            if any(told):
                side = picture.shape[0] // factor
                empty = np.zeros((side, side), np.uint8)
                masked.append(len(place))
                masks.append(np.stack([empty if layer is None else cover(layer, side) for layer in warped]))
                known.append(told)
            place.append(index)
            waiting.append(picture)
        if len(waiting) >= CHUNK or index == len(images) - 1:
            values.append(encode(vae, np.stack(waiting)).numpy().astype(np.float16))
            waiting = []
    side = values[0].shape[-1]
    return {
        "values": np.concatenate(values),
        "image": np.array(place, np.int32),
        "masked": np.array(masked, np.int32),
        "masks": np.array(masks, np.uint8).reshape(-1, len(names), side, side),
        "known": np.array(known, np.uint8).reshape(-1, len(names)),
    }


def class_layers(image: DatasetImage, names: Sequence[str]) -> list[np.ndarray | None]:
    """(H, W) bool of each class, None where the image does not tell of it. Overlapping classes come from layers."""
    declared = image.store.classes()
    told = set(image.row.get("mask_classes") or declared) if groundable(image.row) else set()
    if not told & set(names):
        return [None] * len(names)
    mask = image.store.load_mask(image.row)
    layers = image.store.load_layers(image.row, len(declared))
    places = {name: number for number, name in enumerate(declared)}
    found: list[np.ndarray | None] = []
    for name in names:
        if mask is None or name not in told or name not in declared:
            found.append(None)
        else:
            found.append(mask == declared[name] if layers is None else layers[places[name]])
    return found


def on_square(
    square: Square, row: Row, image: np.ndarray, layers: Sequence[np.ndarray | None]
) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """An image and its layers as `Square` makes them."""
    picture, _ = square(row, image, None)
    moved: list[np.ndarray | None] = []
    for layer in layers:
        placed = None if layer is None else square(row, image, layer.astype(np.uint8))[1]
        moved.append(None if placed is None else placed == 1)
    return picture, moved


def cover(inside: np.ndarray, side: int) -> np.ndarray:
    """(H, W) bool -> (side, side) uint8: how much of each cell is covered, 255 for all of it."""
    grid = F.adaptive_avg_pool2d(torch.from_numpy(inside.astype(np.float32))[None], side)[0]
    return (grid.numpy() * 255).round().astype(np.uint8)


def warp(
    image: np.ndarray, layers: Sequence[np.ndarray | None], config: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """A slightly shifted, scaled, turned and toned copy of an image with its masks; never mirrored.

    Args:
        image: (H, W) uint8.
        layers: (H, W) masks of any type, or None.
    """
    side = image.shape[0]
    angle = np.deg2rad(rng.uniform(-config.rotate, config.rotate))
    zoom = rng.uniform(1 - config.scale, 1 + config.scale, size=2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom[:, None]
    middle = np.full(2, (side - 1) / 2)
    offset = middle - turn @ middle + rng.uniform(-config.shift, config.shift, size=2) * side
    tone = np.exp(rng.uniform(-config.gamma, config.gamma))
    warped = ndimage.affine_transform(image.astype(np.float32), turn, offset, order=1, mode="nearest")
    warped = np.clip(255 * (np.clip(warped, 0, 255) / 255) ** tone, 0, 255).round().astype(np.uint8)
    return warped, [
        None if x is None else ndimage.affine_transform(x, turn, offset, order=0, mode="nearest") for x in layers
    ]
