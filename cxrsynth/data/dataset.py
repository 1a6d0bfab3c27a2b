"""Rows, images and a torch Dataset of the on-disk form: generated and real ones alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cxrsynth.errors import UsageError
from cxrsynth.records import Row
from cxrsynth.store import Store

Keep = Callable[[Row], bool]


def rows(root: Path, splits: Sequence[str] = (), keep: Keep | None = None) -> list[Row]:
    """The meta lines of a dataset in the order of its shards.

    Args:
        splits: ``train``, ``val``, ``test``; all when empty.
        keep: a further condition.

    Raises:
        UsageError: no such dataset, or nothing in it fits.
    """
    store = Store(root)
    store.classes()
    found = [row for row in store.rows() if (not splits or row.get("split") in splits) and (keep is None or keep(row))]
    if not found:
        wanted = f" of split {', '.join(splits)}" if splits else ""
        raise UsageError(f"{root} has no finished image{wanted} that fits", "finish it with the command that wrote it")
    return found


class Images(Dataset[dict[str, Tensor]]):
    """Images and masks.

    An item is ``{"image": (1, H, W) float32 in 0..1, "mask": (H, W) int64 class ids, "labelled": () bool}``; the mask
    of an unlabelled image is all background and must not be learned from.

    Args:
        root: dataset folder.
        chosen: the rows to serve, as `rows` gives them.
        transform: (image (H, W) uint8, mask (H, W) uint8) -> the same, for augmentation.
    """

    def __init__(
        self,
        root: Path,
        chosen: Sequence[Row],
        transform: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> None:
        self.store = Store(root)
        self.rows = list(chosen)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self.rows[index]
        image = self.store.load_image(row)
        mask = self.store.load_mask(row)
        labelled = mask is not None
        if mask is None:
            mask = np.zeros_like(image)
        if self.transform is not None:
            image, mask = self.transform(image, mask)
        return {
            "image": torch.from_numpy(image.astype(np.float32) / 255.0)[None],
            "mask": torch.from_numpy(mask.astype(np.int64)),
            "labelled": torch.tensor(labelled),
        }


def read_images(root: Path, chosen: Sequence[Row]) -> np.ndarray:
    """(N, H, W) uint8: all images in memory; 4,000 images of 256 pixels take 262 MB."""
    store = Store(root)
    return np.stack([store.load_image(row) for row in chosen])


def trainable(row: Row) -> bool:
    """Whether weights may be trained on an image: never on one of an external test set."""
    return row.get("use", "open") != "test"


def groundable(row: Row) -> bool:
    """Whether weights may be trained on the mask of an image: its licence allows it and somebody drew it."""
    return trainable(row) and row.get("mask") is not None and row.get("mask_use", "train") == "train"
