"""DICOM segmentations as masks that can be measured: the image and the patient that they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cxrsynth.data import pseudonym
from cxrsynth.data.dicom import is_dicom
from cxrsynth.data.dicom_fields import DicomError
from cxrsynth.data.dicom_seg import describe, is_segmentation
from cxrsynth.errors import UsageError
from cxrsynth.ingest.dicom import dicom_paths

ENDING = ".seg"


@dataclass(frozen=True, slots=True)
class Segmentation:
    """One file.

    Attributes:
        path: where it is.
        key: pseudonym of the image that it belongs to: the key that ingest and annotate give that image.
        name: of the file, without its endings.
        patient: pseudonym of the patient.
        classes: names of its classes.
    """

    path: Path
    key: str
    name: str
    patient: str
    classes: tuple[str, ...]


def segmentations(place: Path) -> list[Segmentation]:
    """The segmentation in a file, or all below a folder; none where there are none.

    Raises:
        UsageError: two of one image, or one that cannot be read.
        MissingError: the extra ``dicom`` is not installed.
    """
    paths = dicom_paths(place) if place.is_dir() else [place] if place.is_file() and is_dicom(place) else []
    found: dict[str, Segmentation] = {}
    secret = b""
    for path in (path for path in paths if is_segmentation(path)):
        secret = secret or pseudonym.salt()
        try:
            told = describe(path)
        except DicomError as error:
            raise UsageError(f"{path} cannot be read: {error}", "take it out of the folder") from None
        key = pseudonym.pseudonym(secret, "image", told.image.upper())
        if key in found:
            raise UsageError(f"{path} and {found[key].path} belong to one image", "keep one segmentation of each image")
        person = pseudonym.pseudonym(secret, "person", told.person or told.image)
        found[key] = Segmentation(path, key, path.stem.removesuffix(ENDING), person, told.classes)
    return list(found.values())
