"""Layout ``dicom``: a folder of DICOM files in any arrangement, without anybody's name in the result.

DIR/**/*            files with or without an ending; what is no DICOM file is passed over

A segmentation (SEG) among them is the mask of the image that it refers to. A class that it does not name counts as not
looked for.

Keys and patients are pseudonyms (see `cxrsynth.data.pseudonym`); names of files and folders are not kept, because they
often hold what the files themselves must not tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cxrsynth.data import dicom_seg, pseudonym
from cxrsynth.data.dicom import is_dicom, read_header
from cxrsynth.data.dicom_fields import DicomError, code, fields
from cxrsynth.data.dicom_masks import numbered
from cxrsynth.data.keys import Keys, digest
from cxrsynth.data.paths import is_clutter
from cxrsynth.encoding import file_sha256
from cxrsynth.errors import UsageError
from cxrsynth.ingest.folder import split_of
from cxrsynth.ingest.image import CLASSES, SourceImage
from cxrsynth.records import Row

SOURCE = "dicom"


@dataclass(frozen=True, slots=True)
class Segments:
    """A segmentation of one image: its file, and the names of its classes."""

    path: Path
    classes: tuple[str, ...]


class Dicom:
    """All DICOM files below a folder.

    Args:
        root: the folder.
        source: name of where they come from; patients of two sources are two patients, whatever their numbers.
    """

    found = None

    def __init__(self, root: Path, source: str = SOURCE) -> None:
        if not root.is_dir():
            raise UsageError(f"{root} is not a folder", "point to the folder that holds the DICOM files")
        self.root = root
        self.source = source
        self.options: dict[str, Any] = {"source": source}
        self.notes: list[str] = []
        if not dicom_paths(root):
            raise UsageError(
                f"no DICOM file below {root}", "use --layout folder for PNG and JPEG, or point to another folder"
            )

    def images(self) -> Iterator[SourceImage]:
        """One image per file, sorted by key, so that the names of files decide nothing."""
        secret = pseudonym.salt()
        keys = Keys()
        found = []
        left = dict(self.segmentations)
        numbers = numbered(name for one in left.values() for name in one.classes)
        own = {one.path for one in left.values()}
        for path in dicom_paths(self.root):
            if path in own:
                continue
            row = describe(path, self.source, secret)
            row["key"] = keys.take(row["key"], f"{row['key']}-{digest(row['key'])}")  # one image may be filed twice
            mask = left.pop(instance(path), None) if left else None
            if mask is None:
                found.append(SourceImage(row["key"], path, row))
                continue
            row |= {"mask_use": "train", "mask_classes": list(mask.classes)}
            labels = {numbers[name]: name for name in mask.classes}
            found.append(SourceImage(row["key"], path, row, mask.path, labels))
        self.notes = [f"{len(left)} segmentations belong to no image here"] if left else []
        yield from sorted(found, key=lambda image: image.key)

    @cached_property
    def segmentations(self) -> dict[str, Segments]:
        """UID of an image -> the segmentation that refers to it; the first one by path where there are several."""
        found: dict[str, Segments] = {}
        for path in dicom_paths(self.root):
            try:
                told = dicom_seg.describe(path) if dicom_seg.is_segmentation(path) else None
            except DicomError:
                continue  # refused like any other file that is no radiograph
            if told is not None:
                found.setdefault(told.image.upper(), Segments(path, told.classes))
        return found

    def classes(self) -> list[dict[str, Any]]:
        """Those of the segmentations; the standard ones without any."""
        numbers = numbered(name for one in self.segmentations.values() for name in one.classes)
        if numbers:
            return [{"id": i, "name": name, "phrase": name.replace("_", " ")} for name, i in numbers.items()]
        return [{"id": i, "name": n, "phrase": p} for i, (n, p) in enumerate(CLASSES["standard"].items(), start=1)]


def instance(path: Path) -> str:
    """The UID of the image in a file, empty where it cannot be read."""
    try:
        return code(read_header(path), "SOPInstanceUID")
    except DicomError:
        return ""


def dicom_paths(root: Path) -> list[Path]:
    """All DICOM files below a folder but the directories of media, sorted."""
    found = (path for path in root.rglob("*") if path.is_file() and not is_clutter(path.relative_to(root)))
    return sorted(path for path in found if path.name.upper() != "DICOMDIR" and is_dicom(path))


def describe(path: Path, source: str = SOURCE, secret: bytes | None = None) -> Row:
    """The row of a DICOM file: pseudonyms, a prompt, and the fields that name nobody.

    A file that cannot be read, or is set aside, has a key and no fields: reading its pixels says why.
    """
    secret = pseudonym.salt() if secret is None else secret
    row: Row = {"source": source, "use": "open", "mask_use": "", "mask_classes": []}
    try:
        header = read_header(path)
        known = fields(header)
    except DicomError:
        key = pseudonym.pseudonym(secret, "file", file_sha256(path))
        return {**row, "key": key, "prompt": caption({}), "split": split_of(key), "patient": key}
    image, study, person = (code(header, name) for name in ("SOPInstanceUID", "StudyInstanceUID", "PatientID"))
    key = pseudonym.pseudonym(secret, "image", image or file_sha256(path))
    # Without a number the images of one study are still known to be one patient's.
    named = ("patient", source, person) if person else ("study", study) if study else ("image", key)
    patient = pseudonym.pseudonym(secret, *named)
    return {**row, **known, "key": key, "prompt": caption(known), "split": split_of(patient), "patient": patient}


def caption(row: Row) -> str:
    """What the fields say, as a prompt: ``Frontal chest X-ray, PA view, of a 58-year-old man.``"""
    words = ["Frontal chest X-ray"]
    if row.get("view"):
        words.append(f"{row['view']} view")
    age, sex = row.get("age"), row.get("sex")
    grown = age is None or age >= 18
    person = {"M": "man" if grown else "boy", "F": "woman" if grown else "girl"}.get(str(sex), "")
    if age is not None and age < 2:
        words.append("of an infant")
    elif age is not None:
        words.append(
            f"of {'an' if int(age) in (8, 11, 18, *range(80, 90)) else 'a'} {age:.0f}-year-old {person}".rstrip()
        )
    elif person:
        words.append(f"of a {person}")
    return ", ".join(words) + "."
