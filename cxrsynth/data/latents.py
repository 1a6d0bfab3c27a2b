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
from cxrsynth.data.square import Square
from cxrsynth.errors import RecipeError
from cxrsynth.nets.autoencoder import encode
from cxrsynth.nets.bundle import Vae
from cxrsynth.store import Row, Store, dumps, npz, sha256, write_atomic

CHUNK = 64


@dataclass(frozen=True, slots=True)
class Latents:
    """Encoded images.

    Attributes:
        values: (M, C, h, w) float32, one entry per variant.
        image: (M,) index of the row each variant was made from.
        rows: the rows of the images.
        masked: (G,) positions in ``values`` that have masks.
        masks: (G, K, h, w) float32 in 0..1, share of each latent cell that the class covers; classes may not overlap.
    """

    values: Tensor
    image: np.ndarray
    rows: list[Row]
    masked: np.ndarray
    masks: Tensor


class Draws:
    """Which variants a step sees.

    Args:
        latents: the encoded images.
        shares: source -> share of the draws; all sources alike when empty.
        weight: (images,) how often an image is generated among those of its source; all alike by default.
    """

    def __init__(self, latents: Latents, shares: dict[str, float], weight: np.ndarray | None = None) -> None:
        source = np.array([latents.rows[image].get("source", "") for image in latents.image])
        wanted = shares or dict.fromkeys(sorted(set(source)), 1.0)
        self.places = {name: np.flatnonzero(source == name) for name in wanted}
        empty = [name for name, places in self.places.items() if not len(places)]
        if empty:
            raise RecipeError(
                f"diffusion.shares names sources without images: {', '.join(empty)}", "leave them out, or ingest them"
            )
        weights = np.array([wanted[name] for name in self.places], float)
        self.weights = weights / weights.sum()
        self.masked = latents.masked
        self.chances: dict[str, np.ndarray] = {}
        if weight is not None:
            chance = weight[latents.image]
            never = [name for name, places in self.places.items() if not chance[places].sum()]
            if never:
                raise RecipeError(f"every image of {', '.join(never)} has weight 0", "give images.shares without them")
            self.chances = {name: chance[p] / chance[p].sum() for name, p in self.places.items()}

    def __call__(self, rng: np.random.Generator, batch: int, grounded: int) -> tuple[np.ndarray, np.ndarray]:
        """(batch,) positions in ``values``, and (grounded,) positions in ``masks`` of the first ones."""
        first = rng.integers(len(self.masked), size=grounded) if grounded else np.zeros(0, int)
        names = list(self.places)
        rest = [self._one(names[i], rng) for i in rng.choice(len(names), size=batch - grounded, p=self.weights)]
        return np.concatenate([self.masked[first], np.array(rest, int)]).astype(int), first

    def _one(self, source: str, rng: np.random.Generator) -> int:
        places = self.places[source]
        if source in self.chances:
            return int(rng.choice(places, p=self.chances[source]))
        return int(places[rng.integers(len(places))])


def prepare(
    store: Store,
    rows: list[Row],
    vae: Vae,
    config: AugmentConfig,
    names: Sequence[str],
    seed: int,
    folder: Path,
    square: Square | None = None,
) -> Latents:
    """Encode the images, or read what an earlier call with the same images, autoencoder and settings left in
    ``folder``.

    Args:
        names: classes to keep masks of.
        square: how an image becomes the picture that is encoded; as it is by default.
    """
    rows = limit(rows, config.images, seed)
    what: list[Any] = [
        encoder_digest(vae),
        config.model_dump(mode="json"),
        list(names),
        seed,
        [[row["key"], row["image"]] for row in rows],
    ]
    if square is not None:
        what.append(asdict(square))
    path = folder / f"latents-{sha256(dumps(what))[:16]}.npz"
    if not path.exists():
        write_atomic(path, npz(compute(store, rows, vae, config, names, seed, square)))
    with np.load(path) as file:
        return Latents(
            torch.from_numpy(file["values"].astype(np.float32)),
            file["which"] if "which" in file else file["film"],
            rows,
            file["masked"],
            torch.from_numpy(file["masks"].astype(np.float32) / 255),
        )


def encoder_digest(vae: Vae) -> str:
    """sha256 of the weights that make latents; a decoder that was trained further fits the same latents."""
    encoder = {**vae.encoder.state_dict(), **vae.quant_conv.state_dict()}
    return sha256(b"".join(value.cpu().numpy().tobytes() for value in encoder.values()))


def limit(rows: list[Row], most: dict[str, int], seed: int) -> list[Row]:
    """At most ``most[source]`` images of a source, chosen at random; sources that are not named keep all."""
    rng = np.random.default_rng(seed)
    keep = np.ones(len(rows), bool)
    for source, number in sorted(most.items()):
        places = np.array([i for i, row in enumerate(rows) if row.get("source") == source], int)
        keep[rng.permutation(places)[number:]] = False
    return [row for row, kept in zip(rows, keep, strict=True) if kept]


def compute(
    store: Store,
    rows: list[Row],
    vae: Vae,
    config: AugmentConfig,
    names: Sequence[str],
    seed: int,
    square: Square | None = None,
) -> dict[str, np.ndarray]:
    """Arrays of the file: ``values`` float16, ``which`` int32, ``masked`` int32, ``masks`` uint8 (255: all covered)."""
    ids = store.classes()
    rng = np.random.default_rng(seed)
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    pictures: list[np.ndarray] = []
    values: list[np.ndarray] = []
    which: list[int] = []
    masked: list[int] = []
    masks: list[np.ndarray] = []
    for index, row in enumerate(rows):
        image, mask = store.load_image(row), store.load_mask(row) if groundable(row) else None
        if square is not None:
            image, mask = square(row, image, mask)
        complete = mask is not None and set(names) <= set(row.get("mask_classes") or ids)
        for variant in range(config.variants.get(row.get("source", ""), config.default_variants)):
            x, labels = (image, mask) if variant == 0 else warp(image, mask, config, rng)
            if complete and labels is not None:
                masked.append(len(which))
                masks.append(np.stack([cover(labels == ids[name], x.shape[0] // factor) for name in names]))
            which.append(index)
            pictures.append(x)
        if len(pictures) >= CHUNK or index == len(rows) - 1:
            values.append(encode(vae, np.stack(pictures)).numpy().astype(np.float16))
            pictures = []
    side = values[0].shape[-1]
    return {
        "values": np.concatenate(values),
        "which": np.array(which, np.int32),
        "masked": np.array(masked, np.int32),
        "masks": np.array(masks, np.uint8).reshape(-1, len(names), side, side),
    }


def cover(inside: np.ndarray, side: int) -> np.ndarray:
    """(H, W) bool -> (side, side) uint8: how much of each cell is covered, 255 for all of it."""
    grid = F.adaptive_avg_pool2d(torch.from_numpy(inside.astype(np.float32))[None], side)[0]
    return (grid.numpy() * 255).round().astype(np.uint8)


def warp(
    image: np.ndarray, mask: np.ndarray | None, config: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """A slightly shifted, scaled, turned and toned copy of an image with its mask; never mirrored."""
    side = image.shape[0]
    angle = np.deg2rad(rng.uniform(-config.rotate, config.rotate))
    zoom = rng.uniform(1 - config.scale, 1 + config.scale, size=2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom[:, None]
    middle = np.full(2, (side - 1) / 2)
    offset = middle - turn @ middle + rng.uniform(-config.shift, config.shift, size=2) * side
    tone = np.exp(rng.uniform(-config.gamma, config.gamma))
    warped = ndimage.affine_transform(image.astype(np.float32), turn, offset, order=1, mode="nearest")
    warped = np.clip(255 * (np.clip(warped, 0, 255) / 255) ** tone, 0, 255).round().astype(np.uint8)
    if mask is None:
        return warped, None
    return warped, ndimage.affine_transform(mask, turn, offset, order=0, mode="nearest")
