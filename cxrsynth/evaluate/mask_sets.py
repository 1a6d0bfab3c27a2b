"""Masks on disk in every form that can be measured: a dataset, a folder of PNGs, or DICOM segmentations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cxrsynth.data import dicom_masks as painting
from cxrsynth.data.classes import Colour, colours, read_classes
from cxrsynth.data.masks import MaskError, read_mask
from cxrsynth.data.matching import patient_of
from cxrsynth.data.paths import inside
from cxrsynth.data.patients import patient_id
from cxrsynth.errors import UsageError
from cxrsynth.evaluate import dicom_masks
from cxrsynth.evaluate.nnunet import case_names, check_painted, label_names
from cxrsynth.ingest.folder import SUFFIXES
from cxrsynth.ingest.scan import scan
from cxrsynth.records import Row
from cxrsynth.store import Store


@dataclass(frozen=True, slots=True)
class Mask:
    """One mask on disk.

    Attributes:
        key: name that the same image has in both sets.
        path: its PNG, or its DICOM segmentation.
        patient: whose image it is.
        classes: names of the classes that somebody has labelled in it; None for all of the set.
        image: its file, or None where only masks are given.
        ids: the values that stand for a class, where that is known.
        colours: colour -> id, where its classes are colours.
        ours: whether this package wrote it, and 255 is what nobody decided.
        name: of the file, where the key is not made of it.
        segments: class name -> id of a DICOM segmentation; None for a PNG.
    """

    key: str
    path: Path
    patient: str
    classes: frozenset[str] | None = None
    image: Path | None = None
    ids: tuple[int, ...] = ()
    colours: Mapping[Colour, int] = field(default_factory=dict)
    ours: bool = False
    name: str = ""
    segments: Mapping[str, int] | None = None

    def load(self) -> np.ndarray:
        """(H, W) uint8 class ids, 255 where nobody decided.

        Raises:
            MaskError: it cannot be read, or has values that no class stands for.
        """
        if self.segments is not None:
            return painting.paint(self.path, self.segments)
        undecided = self.ours or len(self.ids) != 1
        return read_mask(self.path, self.ids, colours=self.colours, ignore=undecided)[0]


@dataclass(frozen=True, slots=True)
class Masks:
    """A set of masks: a dataset, or a folder of PNGs or of DICOM segmentations.

    Attributes:
        classes: class name -> id, empty where only pixels say.
        masks: key -> mask.
    """

    classes: dict[str, int]
    masks: dict[str, Mask]


def gather(path: Path, splits: Sequence[str] = ()) -> Masks:
    """The masks of a dataset, the PNGs of a folder by their file name, as nnU-Net and others write them, or DICOM SEG.

    Raises:
        UsageError: nothing there, or no mask in it.
    """
    if (path / "classes.json").is_file() and (path / "shards").is_dir():
        store = Store(path)
        found = {
            row["key"]: Mask(
                row["key"],
                inside(path, row["mask"]),
                patient_id(row),
                labelled(row),
                inside(path, row["image"]) if row["image"] else None,
                ours=True,
            )
            for row in store.rows()
            if row.get("mask") and (not splits or row.get("split") in splits)
        }
        classes = store.classes()
    elif segmented := dicom_masks.segmentations(path):
        classes = painting.numbered(name for one in segmented for name in one.classes)
        found = {one.key: Mask(one.key, one.path, one.patient, name=one.name, segments=classes) for one in segmented}
    else:
        folder = path / "masks" if (path / "masks").is_dir() else path
        files = [folder / name for name in scan(folder, SUFFIXES).images] if folder.is_dir() else []
        names = case_names([str(file.relative_to(folder).with_suffix("")) for file in files])
        found = {name: Mask(Path(name).name, file, Path(name).name) for name, file in zip(names, files, strict=True)}
        classes, painted = json_classes(path), json_colours(path)
        if not classes and (labels := label_names(folder)):
            classes = labels
            check_painted(folder, values_of(found.values()), classes)
        found = {
            key: replace(one, ids=tuple(classes.values()), colours=painted, patient=patient_of(key) or one.patient)
            for key, one in found.items()
        }
    if not found:
        raise UsageError(
            f"{path} holds no masks",
            "name a dataset, or a folder with one PNG of class ids, or one DICOM SEG, per image",
        )
    return Masks(classes, found)


def json_classes(folder: Path) -> dict[str, int]:
    """``classes.json`` of a folder, empty without one."""
    path = folder / "classes.json"
    return {item["name"]: item["id"] for item in read_classes(path)} if path.is_file() else {}


def json_colours(folder: Path) -> dict[Colour, int]:
    """The colours that ``classes.json`` of a folder gives its classes."""
    path = folder / "classes.json"
    return colours(path, read_classes(path)) if path.is_file() else {}


def labelled(row: Row) -> frozenset[str] | None:
    """The classes that were looked for in an image; None where the row does not say."""
    return frozenset(row["mask_classes"]) if row.get("mask_classes") else None


def values_of(masks: Iterable[Mask]) -> set[int]:
    """The pixel values of all masks that can be read."""
    values: set[int] = set()
    for mask in masks:
        with suppress(MaskError):
            values |= set(np.unique(mask.load()).tolist())
    return values
