"""A radiograph from outside as it should be seen: any kind of file, upright, dense parts bright.

Everything that reads images of users goes through here: ingest, annotate, segment, classify, control.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cxrsynth.data.dicom import is_dicom, read_dicom
from cxrsynth.data.dicom_fields import DicomError
from cxrsynth.data.keys import safe
from cxrsynth.data.upright import UPRIGHT, Turn, judge
from cxrsynth.errors import UsageError
from cxrsynth.ingest.dicom import Dicom, describe, dicom_paths
from cxrsynth.ingest.folder import SUFFIXES, Folder
from cxrsynth.ingest.image import SMALLEST_SIDE, SourceImage, UnreadableError, crop, read_gray

Polarity = Literal["auto", "keep"]
TURNED = ": turned"  # how the note ends on an image that was not upright


@dataclass(frozen=True, slots=True)
class Radiograph:
    """One image that was read.

    Attributes:
        pixels: (H, W) float32 of any range, upright, without what lies outside its box.
        notes: what is not as it was in the file.
        shape: (H, W) of the image in the file.
        turn: what was done to it; masks of it are turned alike, and back.
    """

    pixels: np.ndarray
    notes: list[str]
    shape: tuple[int, int]
    turn: Turn = UPRIGHT


def read_radiograph(
    path: Path, polarity: Polarity = "auto", box: tuple[int, int, int, int] | None = None
) -> Radiograph:
    """Read one image.

    Args:
        polarity: ``auto`` looks whether the image is inverted, on its side, upside down or mirrored, and turns it, or
            refuses it where that cannot be put right; ``keep`` takes it as it is (a DICOM file as its header says).
        box: (left, top, right, bottom) of the content in the file, None for all.

    Raises:
        UnreadableError: it cannot be read or used; the message names the reason.
        MissingError: a DICOM file, and the extra ``dicom`` is not installed.
    """
    if is_dicom(path):
        try:
            array, notes = read_dicom(path)
        except DicomError as error:
            raise UnreadableError(str(error)) from None
        if min(array.shape) < SMALLEST_SIDE:
            raise UnreadableError(f"only {array.shape[1]}x{array.shape[0]} pixels")
    else:
        array, notes = read_gray(path)
    shape = (array.shape[0], array.shape[1])
    pixels = crop(array, box)
    if polarity == "keep":
        return Radiograph(pixels, notes, shape)
    verdict = judge(pixels)
    if verdict.refused:
        raise UnreadableError(f"{verdict.reason}; --polarity keep takes it as it is")
    if not verdict.turn:
        return Radiograph(pixels, notes, shape)
    turned = np.ascontiguousarray(verdict.turn(pixels))
    return Radiograph(turned, [*notes, f"{verdict.reason}{TURNED}"], shape, verdict.turn)


def was_turned(notes: Iterable[str]) -> bool:
    """Whether the notes on an image say that it was not upright."""
    return any(note.endswith(TURNED) for note in notes)


def images_at(place: Path) -> Iterator[SourceImage]:
    """The images behind a path: an image, a DICOM file, or all of both below a folder.

    Raises:
        UsageError: there is no such path, or no image in it.
    """
    dicoms = dicom_images(place)
    yield from dicoms
    if place.is_dir():
        if not dicoms or any(path.suffix.lower() in SUFFIXES for path in place.rglob("*")):
            yield from Folder(place).images()
    elif not place.is_file():
        raise UsageError(f"{place} does not exist", "name an image, a DICOM file, a folder of them, or a dataset")
    elif not dicoms:
        key = safe(place.stem)
        row = {"key": key, "prompt": "", "split": "test", "patient": key, "source": place.resolve().parent.name}
        yield SourceImage(key, place, row)


def dicom_images(place: Path) -> list[SourceImage]:
    """A DICOM file, or all of them below a folder; none where there are none."""
    if place.is_dir():
        return list(Dicom(place).images()) if dicom_paths(place) else []
    if not (place.is_file() and is_dicom(place)):
        return []
    row = describe(place)
    return [SourceImage(row["key"], place, row)]
