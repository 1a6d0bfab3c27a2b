"""What of a dataset is exported: the classes, the images and their splits, and where all of it comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cxrsynth import __version__
from cxrsynth.data.dataset import trainable
from cxrsynth.data.paths import inside, trouble
from cxrsynth.encoding import dumps, lines, sha256
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.pages.card.readme import citation
from cxrsynth.pages.summary import Summary, summarise
from cxrsynth.records import IGNORE, Row

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Selection:
    """A dataset as an exporter sees it.

    Attributes:
        summary: the facts of the dataset.
        classes: name -> id in the dataset's masks, of the classes that are exported, in the dataset's order.
        overlay: names of those that lie over others (findings); empty where no classes overlap.
        rows: the meta lines of the images that are exported, in the dataset's order.
        left_out: reason -> images that are not.
        advance: told (images done, images in all).
        stated: path -> sha256, as the receipts say.
    """

    summary: Summary
    classes: dict[str, int]
    overlay: frozenset[str]
    rows: list[Row]
    left_out: Counter[str] = field(default_factory=Counter)
    advance: Callable[[int, int], None] | None = None
    stated: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Row]:
        """The rows one after the other; progress is told between them."""
        for done, row in enumerate(self.rows, start=1):
            yield row
            if self.advance is not None:
                self.advance(done, len(self.rows))

    @property
    def overlapping(self) -> bool:
        """Whether pixels may belong to several classes, so that one id per pixel cannot say all."""
        return bool(self.overlay) and any(row.get("layers") for row in self.rows)

    @property
    def digest(self) -> str:
        """sha256 of everything that decides what is exported, hex."""
        receipts = [receipt.as_json() for receipt in self.summary.store.receipts()]
        return sha256(dumps([receipts, self.provenance()]) + lines(self.rows))

    def splits(self) -> dict[str, int]:
        """Split -> images, in the usual order; a split without images is not there."""
        found = Counter(split(row) for row in self.rows)
        return {name: found[name] for name in (*SPLITS, *sorted(set(found) - set(SPLITS))) if name in found}

    def image(self, row: Row) -> bytes:
        """The PNG of an image, byte by byte as it was written; raises as `file`."""
        return self.file(row, "image")

    def file(self, row: Row, name: str) -> bytes:
        """The bytes of a file of an image: ``image``, ``mask`` or ``layers``.

        Raises:
            MismatchError: it is gone, or not what its receipt says; damage is not handed on.
        """
        path, stated = inside(self.summary.store.root, row[name]), self.stated.get(row[name])
        why = trouble(path)
        data = b"" if why else path.read_bytes()
        if why or (stated is not None and sha256(data) != stated):
            raise MismatchError(
                f"{path}: {why or 'changed since it was written'}", f"see cxrsynth verify {self.summary.store.root}"
            )
        return data

    def regions(self, row: Row) -> dict[str, np.ndarray]:
        """Class name -> (H, W) bool of the classes that are seen in an image, overlaps kept, in the dataset's order."""
        found = self.summary.regions(row)
        return {name: found[number] for name, number in self.classes.items() if number in found}

    def ignored(self, row: Row) -> np.ndarray | None:
        """(H, W) bool, pixels that nobody has decided; None where there are none."""
        mask = self.summary.store.load_mask(row)
        undecided = None if mask is None else mask == IGNORE
        return undecided if undecided is not None and undecided.any() else None

    def licence(self, row: Row) -> str:
        """The licence of one image in its own words; empty where none is stated."""
        return str(row.get("licence") or self.summary.licence)

    def provenance(self) -> dict[str, Any]:
        """Where the images come from, and what may be done with them, in plain types."""
        return {
            "dataset": self.summary.name,
            "fingerprint": self.summary.fingerprint,
            "synthetic": self.summary.synthetic,
            "generator": self.summary.recipe.get("generator") if self.summary.synthetic else None,
            "model": self.summary.model or None,
            "licences": self.summary.licences(),
            "citation": citation(self.summary),
            "cxrsynth": __version__,
        }


def select(
    dataset: Path,
    *,
    masks_only: bool,
    classes: Sequence[str] = (),
    advance: Callable[[int, int], None] | None = None,
) -> Selection:
    """Choose what is exported.

    Args:
        masks_only: leave out images whose mask is missing, or does not tell of all classes; and, outside of the test
            split, those whose licence allows to measure on them only.
        classes: names of the classes; all by default.

    Raises:
        UsageError: no dataset, an unknown class, or nothing is left.
    """
    summary = summarise(dataset)
    known = {label.name: label.id for label in summary.labels}
    unknown = [name for name in classes if name not in known]
    if unknown:
        raise UsageError(f"{dataset} has no class {', '.join(unknown)}", f"its classes: {', '.join(known)}")
    wanted = {name: number for name, number in known.items() if not classes or name in classes}
    rows: list[Row] = []
    left_out: Counter[str] = Counter()
    for row in summary.rows:
        reason = objection(row, wanted) if masks_only else ""
        if reason:
            left_out[reason] += 1
        else:
            rows.append(row)
    if not rows:
        told = ", ".join(f"{reason} ({times})" for reason, times in left_out.items()) or "it holds no image"
        raise UsageError(f"nothing of {dataset} can be exported: {told}", "ask for fewer --classes, or --to hf")
    receipts = summary.store.receipts()
    stated = {path: about["sha256"] for receipt in receipts for path, about in receipt.files.items()}
    over = {item["name"] for item in summary.recipe.get("classes", []) if item.get("overlap")}
    return Selection(summary, wanted, frozenset(over & set(wanted)), rows, left_out, advance, stated)


def objection(row: Row, classes: dict[str, int]) -> str:
    """Why an image cannot be in a set of images with masks; empty where it can."""
    if not row.get("mask"):
        return "no mask"
    if not set(classes) <= set(row.get("mask_classes") or classes):
        return "not every class was looked for in it"
    if split(row) != "test" and not (trainable(row) and row.get("mask_use") != "benchmark"):
        return "its licence allows measuring only, and it is not in the test split"
    return ""


def split(row: Row) -> str:
    """The split of an image: ``train``, ``val`` or ``test``; images without one are for training."""
    return str(row.get("split") or "train")


def shape(dataset: Selection, row: Row) -> tuple[int, int]:
    """(H, W) of an image and its mask.

    Raises:
        MismatchError: it is gone or damaged.
    """
    height, width = dataset.summary.store.load_image(row).shape
    return height, width
