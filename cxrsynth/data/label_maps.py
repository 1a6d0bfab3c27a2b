"""Images with label maps: those of people, and those of a segmenter for images that nobody labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxrsynth.data.dataset import groundable, read_images, trainable
from cxrsynth.data.dataset import rows as read_rows
from cxrsynth.encoding import npz
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.files import write_atomic
from cxrsynth.nets.segmenter import Segmenter
from cxrsynth.records import Row
from cxrsynth.store import Store


@dataclass(frozen=True, slots=True)
class LabelMaps:
    """Images with label maps.

    Attributes:
        images: (N, S, S) uint8.
        masks: (N, S, S) uint8: 0 background, k + 1 class k of those asked for.
    """

    images: np.ndarray
    masks: np.ndarray


def has_masks(row: Row, classes: Sequence[str]) -> bool:
    """Whether an image has reference masks of all classes, and weights may be trained on them."""
    return groundable(row) and set(classes) <= set(row.get("mask_classes") or classes)


def with_masks(data: Path, classes: Sequence[str], most: int | None, seed: int) -> list[Row]:
    """Training images with reference masks of all classes, ``most`` of them chosen at random.

    Raises:
        UsageError: there are not as many.
    """
    ids = Store(data).classes()

    def fits(row: Row) -> bool:
        return groundable(row) and set(classes) <= set(row.get("mask_classes") or ids)

    found = read_rows(data, ("train",), fits)
    if most is None:
        return found
    if most > len(found):
        raise UsageError(f"{most} images are asked for, {data} has {len(found)} that fit", f"--images {len(found)}")
    return [found[i] for i in sorted(np.random.default_rng(seed).permutation(len(found))[:most].tolist())]


def unlabelled(data: Path, classes: Sequence[str], most: int) -> list[Row]:
    """At most ``most`` training images of adults that a segmenter may label, spread over all."""
    found = read_rows(data, ("train",), trainable)
    found = [row for row in found if not has_masks(row, classes) and row.get("population", "adult") != "pediatric"]
    if len(found) <= most:
        return found
    return [found[int(i)] for i in np.linspace(0, len(found) - 1, most)] if most else []


def read(store: Store, rows: list[Row], classes: Sequence[str]) -> LabelMaps:
    """Images with their reference masks, numbered in the order of the classes."""
    ids = store.classes()
    masks = []
    for row in rows:
        stored = store.load_mask(row)
        mask = np.zeros_like(stored)
        for number, name in enumerate(classes, start=1):
            mask[stored == ids[name]] = number
        masks.append(mask)
    return LabelMaps(read_images(store.root, rows), np.stack(masks))


def labelled(
    store: Store, rows: list[Row], labeller: Segmenter | None, classes: Sequence[str], cache: Path, digest: str
) -> LabelMaps | None:
    """Images labelled by a segmenter, without those in which it misses a class; kept in ``cache`` for a resume.

    Raises:
        MismatchError: the segmenter does not know a class.
    """
    if labeller is None or not rows:
        return None
    if cache.exists():
        with np.load(cache) as kept:
            if str(kept["digest"]) == digest:
                return LabelMaps(kept["images"], kept["masks"])
    missing = [name for name in classes if name not in labeller.classes]
    if missing:
        raise MismatchError(
            f"the segmenter knows {', '.join(labeller.classes)}, not {missing[0]}", "train it with --classes"
        )
    images = read_images(store.root, rows)
    masks = np.zeros_like(images)
    for mask, found in zip(masks, labeller(list(images)), strict=True):
        for number, name in enumerate(classes, start=1):
            mask[found == labeller.classes.index(name) + 1] = number
    whole = np.array([all((mask == k + 1).any() for k in range(len(classes))) for mask in masks])
    if not whole.any():
        return None
    body = {"digest": np.array(digest), "images": images[whole], "masks": masks[whole]}
    write_atomic(cache, npz(body))
    return LabelMaps(body["images"], body["masks"])
