"""Layout ``folder``: images in a folder, masks of the same name beside them.

DIR/images/a.png  or  DIR/a.png
DIR/masks/a.png       class ids, optional
DIR/classes.json      optional; ``right_lung, left_lung, heart`` as 1, 2, 3 otherwise
DIR/metadata.csv      optional: file, patient, split, caption, pixel_spacing (mm, of the file's own pixels), any other
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from cxrsynth.data.classes import Colour, colours, read_classes
from cxrsynth.data.keys import Keys
from cxrsynth.data.matching import MASKS, match, patient_of
from cxrsynth.data.paths import contained, inside, shown
from cxrsynth.data.tables import Table, read_table, spacing, split_name
from cxrsynth.errors import UsageError
from cxrsynth.ingest.image import CLASSES, SourceImage
from cxrsynth.ingest.scan import Found, scan
from cxrsynth.records import Row

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
CAPTION = "Frontal chest X-ray."
PATIENT = ("patient", "patient_id", "subject_id")
SPACING = "pixel_spacing"
NAMED = 5  # files that a note names


class Folder:
    """All images below a folder.

    Args:
        root: the folder.

    Raises:
        UsageError: no folder, no image in it, or a table or ``classes.json`` that cannot be read.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UsageError(f"{root} is not a folder", "point to the folder that holds the images")
        self.root = root
        self.place = root / "images" if (root / "images").is_dir() else root
        self.masks = root / "masks"
        if not contained(root, self.place) or not contained(root, self.masks):
            raise UsageError(f"{self.place} or {self.masks} leaves {root}", "point to the real folder")
        self.options: dict[str, Any] = {}
        self.notes: list[str] = []
        if not self.found.images:
            why = "; ".join(filter(None, [self.found.told(), *(f"{p}: {r}" for p, r in self.found.troubles[:3])]))
            expected = "DICOM files are read with --layout dicom; " if "DICOM" in self.found.skipped else ""
            expected += f"expected files that end in {', '.join(sorted(SUFFIXES))}"
            raise UsageError(f"no image below {self.place}" + (f", but {why}" if why else ""), expected)

    @cached_property
    def found(self) -> Found:
        """The images and what is passed over; masks are not counted."""
        return scan(self.place, SUFFIXES, [self.masks])

    def images(self) -> Iterator[SourceImage]:
        """One record per image; then the lines of the table that have no image, each with its reason."""
        self.notes = list(self.table.notes) if self.table else []
        names = [path.as_posix() for path in self.found.images]
        lines, lost = self._lines(names)
        masks = self._masks(names)
        labels = {item["id"]: item["name"] for item in self.classes()}
        keys = Keys()
        for position, path in enumerate(self.found.images):
            extra = lines.get(position, {})
            key = keys.take(path.with_suffix("").as_posix(), path.as_posix())
            patient = _patient(extra) or patient_of(path.as_posix()) or key
            mask = masks.get(position)
            row: Row = {n: value for n, value in extra.items() if n not in ("file", "caption", SPACING, *PATIENT)}
            known = spacing(extra.get(SPACING, ""))
            row |= {SPACING: known} if known else {}
            row |= {
                "key": key,
                "prompt": extra.get("caption") or CAPTION,
                "split": split_name(extra.get("split", "")) or split_of(patient),
                "patient": patient,
                "source": row.get("source") or shown(self.root.resolve().name),
                "use": row.get("use") or "open",
                "mask_use": "train" if mask else "",
                "mask_classes": list(labels.values()) if mask else [],
            }
            outside = "" if contained(self.root, self.place / path) else "a link leads out of the folder"
            yield SourceImage(key, self.place / path, row, mask, labels, colours=self._colours(), reason=outside)
        for extra, reason in lost:
            key = keys.take(extra["file"])
            body = {"key": key, "prompt": extra.get("caption") or CAPTION, "source": shown(self.root.resolve().name)}
            yield SourceImage(key, self.place / "missing", body, reason=reason)
        if masks and not (self.root / "classes.json").exists():
            self.notes.append(f"no classes.json: {', '.join(f'{i} {name}' for i, name in labels.items())} assumed")
        if not any(_patient(line) for line in lines.values()):
            told = sum(bool(patient_of(name)) for name in names)
            self.notes.append(
                f"no column 'patient': {told} of {len(names)} images name their patient, every other counts as one"
            )

    @cached_property
    def table(self) -> Table | None:
        """``metadata.csv``, its splits checked; None without one.

        Raises:
            UsageError: it cannot be read, names a file twice, or has a split nobody knows.
        """
        path = self.root / "metadata.csv"
        if not path.exists() and not path.is_symlink():
            return None
        table = read_table(inside(self.root, "metadata.csv"), ["file"], reserved=True)
        seen: dict[str, int] = {}
        for position, line in enumerate(table.rows):
            before = seen.setdefault(line["file"], position)
            if before != position:
                raise UsageError(
                    f"{table.where(position)}, names {line['file']} again, after line {table.numbers[before]}",
                    "give every image one line",
                )
            try:
                split_name(line.get("split", ""))
            except ValueError as error:
                raise UsageError(f"{table.where(position)}: {error}", "write train, val or test") from error
            try:
                spacing(line.get(SPACING, ""))
            except ValueError as error:
                hint = "write millimetres: 0.143, or 0.143 0.139 for rows and columns"
                raise UsageError(f"{table.where(position)}: {error}", hint) from error
        return table

    def _lines(self, names: list[str]) -> tuple[dict[int, dict[str, str]], list[tuple[dict[str, str], str]]]:
        """Position of an image -> its line; and the lines without an image, with the reason."""
        if self.table is None:
            return {}, []
        wanted = [line["file"] for line in self.table.rows]
        matches = match(wanted, names)
        lost = [(self.table.rows[i], self._why(wanted[i])) for i in matches.left]
        untold = len(names) - len(matches.of)
        if untold:
            self.notes.append(f"{untold} of {len(names)} images have no line in metadata.csv")
        return {file: self.table.rows[name] for file, name in matches.of.items()}, lost

    def _why(self, name: str) -> str:
        """Why a line has no image."""
        try:
            path = inside(self.place, name)
        except UsageError as error:
            return error.message
        if path.is_symlink() and not path.exists():
            return "broken link"
        alike = [one for one in self.found.images if one.name.casefold() == path.name.casefold()]
        return f"file is missing; {len(alike)} of this name in other folders" if alike else "file is missing"

    def _masks(self, names: list[str]) -> dict[int, Path]:
        """Position of an image -> its mask; what belongs to no image is noted."""
        if not self.masks.is_dir():
            return {}
        found = scan(self.masks, SUFFIXES)
        masks = [path.as_posix() for path in found.images]
        matches = match(masks, names, MASKS)
        left = [shown(masks[i]) for i in matches.left]
        if left:
            more = ", ..." if len(left) > NAMED else ""
            self.notes.append(f"{len(left)} files in masks/ match no image: {', '.join(left[:NAMED])}{more}")
        if found.skipped:
            self.notes.append(f"in masks/ {found.told()} skipped: masks are {', '.join(sorted(SUFFIXES))}")
        return {file: self.masks / found.images[name] for file, name in matches.of.items()}

    @cached_property
    def _classes(self) -> list[dict[str, Any]]:
        path = self.root / "classes.json"
        if path.exists() or path.is_symlink():
            return read_classes(inside(self.root, "classes.json"))
        return [{"id": i, "name": n, "phrase": p} for i, (n, p) in enumerate(CLASSES["standard"].items(), start=1)]

    def classes(self) -> list[dict[str, Any]]:
        """``classes.json`` of the folder, or the standard ones."""
        return self._classes

    def _colours(self) -> dict[Colour, int]:
        return colours(self.root / "classes.json", self._classes)


def _patient(line: dict[str, str]) -> str:
    """The patient that a line of the table names."""
    return next((line[name] for name in PATIENT if line.get(name)), "")


def split_of(patient: str) -> str:
    """``train`` (80 %), ``val`` or ``test`` (10 % each) from the patient's name alone: adding images moves nobody."""
    number = int.from_bytes(hashlib.sha256(patient.encode("utf-8", "surrogateescape")).digest()[:4], "big") % 10
    return {8: "val", 9: "test"}.get(number, "train")
