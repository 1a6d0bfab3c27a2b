"""Images that findings are put into: real ones with an anatomy mask, without the finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxrsynth.data.dataset import trainable
from cxrsynth.data.findings import FINDINGS
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.domain.lexicon import found, is_normal, words_on_findings
from cxrsynth.encoding import dumps, sha256
from cxrsynth.errors import UsageError
from cxrsynth.records import Row
from cxrsynth.store import Store

USABLE = ("train", "model")  # masks that may be built on; those for benchmarks only may not


@dataclass(frozen=True, slots=True)
class Carriers:
    """The images of a dataset that may carry a finding.

    Attributes:
        store: the dataset.
        rows: those with lungs, in order.
        ids: class name -> id in its masks.
        silent: no row says anything about findings, so all are taken to be without.
        unlabelled: images that were left out because they have no mask of the lungs.
    """

    store: Store
    rows: tuple[Row, ...]
    ids: dict[str, int]
    silent: bool
    unlabelled: int

    @property
    def digest(self) -> str:
        """sha256 over the keys and files of the images and masks."""
        stated = {path: one["sha256"] for receipt in self.store.receipts() for path, one in receipt.files.items()}
        listed = [[row["key"], stated.get(row["image"]), stated.get(row["mask"])] for row in self.rows]
        return sha256(dumps(listed))

    def without(self, kinds: Sequence[str]) -> list[int]:
        """Places of the rows that are known not to have any of these findings."""
        return [i for i, row in enumerate(self.rows) if self.silent or not any(has(row, kind) for kind in kinds)]

    def load(self, row: Row) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) uint8 image and (H, W) uint8 anatomy with the ids of `cxrsynth.domain.atlas.CLASSES`."""
        stored = self.store.load_mask(row)
        assert stored is not None  # `find` leaves others out
        labels = np.zeros_like(stored)
        for name, number in CLASSES.items():
            if name in self.ids:
                labels[stored == self.ids[name]] = number
        return self.store.load_image(row), labels


def find(images: Path, splits: Sequence[str] = (), origins: Sequence[str] = (), most: int | None = None) -> Carriers:
    """The carriers of a dataset.

    Args:
        splits: only these; all when empty.
        origins: only images of these sources.
        most: at most so many, spread evenly over all of them.

    Raises:
        UsageError: no dataset, nothing that fits, or no image with a mask of the lungs.
    """
    if not (images / "classes.json").is_file():
        raise UsageError(
            f"{images} is no dataset with masks of the lungs",
            f"label the images first: cxrsynth annotate {images} -o out/labelled",
        )
    store = Store(images)
    ids = store.classes()
    fitting = [
        row
        for row in store.rows()
        if trainable(row)
        and (not splits or row.get("split") in splits)
        and (not origins or row.get("source") in origins)
        and "simulated" not in row
    ]
    if not fitting:
        raise UsageError(f"{images} has no finished image that fits", "leave --split and --source out")
    lungs = {"right_lung", "left_lung"}
    usable = [
        row
        for row in fitting
        if row.get("mask") and row.get("mask_use", "train") in USABLE and lungs <= set(row.get("mask_classes", ids))
    ]
    if not usable or not lungs <= set(ids):
        raise UsageError(
            f"no image of {images} has a mask of the lungs that may be used",
            f"label them first: cxrsynth annotate {images} -o out/labelled",
        )
    if most is not None and most < len(usable):
        usable = [usable[i * len(usable) // most] for i in range(most)]
    silent = not any(words_on_findings(row).strip() for row in usable)
    return Carriers(store, tuple(usable), ids, silent, len(fitting) - len(usable))


def has(row: Row, kind: str) -> bool:
    """Whether an image has a finding already, or nothing is known about it."""
    text = words_on_findings(row).strip()
    if not text:
        return True
    if is_normal(text) or (text.strip(".").lower() == "normal heart size"):
        return False
    # An image that is known for one finding may have others: only what does not hide or imply this one is allowed.
    return any(found(text, label) for label in FINDINGS[kind].labels)


def lungs_from(row: Row) -> str:
    """Who drew the lungs: ``human``, ``model`` (attention, mask head), ``network``, or ``generated`` with the image."""
    if row.get("mask_by"):
        return "network"
    return {"train": "human", "model": "model"}.get(row.get("mask_use", ""), "generated")
