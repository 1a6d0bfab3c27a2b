"""Layout ``folder``: pictures in a folder, masks of the same name beside them.

DIR/images/a.png  or  DIR/a.png
DIR/masks/a.png       class ids, optional
DIR/classes.json      optional; ``right_lung, left_lung, heart`` as 1, 2, 3 otherwise
DIR/metadata.csv      optional: file, patient, split, caption, and any other column
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cxrsynth.errors import UsageError
from cxrsynth.ingest.collection import safe
from cxrsynth.ingest.image import CLASSES, SourceImage
from cxrsynth.store import Row

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
CAPTION = "Frontal chest X-ray."


class Folder:
    """All pictures below a folder.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UsageError(f"{root} is not a folder", "point to the folder that holds the pictures")
        self.root = root
        self.pictures = root / "images" if (root / "images").is_dir() else root
        self.options: dict[str, Any] = {}
        if not self.paths():
            raise UsageError(
                f"no picture below {self.pictures}", f"expected files that end in {', '.join(sorted(SUFFIXES))}"
            )

    def paths(self) -> list[Path]:
        """All pictures, sorted, masks not counted."""
        masks = self.root / "masks"
        found = (path for path in self.pictures.rglob("*") if path.suffix.lower() in SUFFIXES)
        return sorted(path for path in found if masks not in path.parents)

    def images(self) -> Iterator[SourceImage]:
        """One image per picture; two pictures whose names differ only in their ending get different keys."""
        known = self.known()
        labels = {item["id"]: item["name"] for item in self.classes()}
        seen: set[str] = set()
        for path in self.paths():
            relative = path.relative_to(self.pictures)
            key = safe(str(relative.with_suffix("")))
            key = key if key not in seen else safe(str(relative))
            seen.add(key)
            extra = known.get(str(relative)) or known.get(relative.stem, {})
            patient = extra.get("patient") or key
            mask = self.root / "masks" / relative.with_suffix(".png")
            row: Row = {name: value for name, value in extra.items() if name not in ("file", "caption")}
            row |= {
                "key": key,
                "prompt": extra.get("caption") or CAPTION,
                "split": extra.get("split") or split_of(patient),
                "patient": patient,
                "source": row.get("source") or self.root.name,
                "use": row.get("use") or "open",
                "mask_use": "train" if mask.exists() else "",
                "mask_classes": list(labels.values()) if mask.exists() else [],
            }
            yield SourceImage(key, path, row, mask if mask.exists() else None, labels)
        found = {path.stem for path in self.paths()}
        # Words without a picture: an image that cannot be read, and is listed as such.
        for name in sorted({extra["file"] for extra in known.values() if Path(extra["file"]).stem not in found}):
            extra = {column: value for column, value in known[name].items() if column not in ("file", "caption")}
            row = {**extra, "key": safe(name), "prompt": known[name].get("caption") or CAPTION}
            yield SourceImage(
                safe(name), self.pictures / name, {**row, "source": extra.get("source") or self.root.name}
            )

    def known(self) -> dict[str, dict[str, str]]:
        """``metadata.csv`` by file name and by stem."""
        path = self.root / "metadata.csv"
        if not path.exists():
            return {}
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if rows and "file" not in rows[0]:
            raise UsageError(f"{path} has no column 'file'", "needed: file; optional: patient, split, caption")
        return {name: row for row in rows for name in (row["file"], Path(row["file"]).stem)}

    def classes(self) -> list[dict[str, Any]]:
        """``classes.json`` of the folder, or the standard ones."""
        path = self.root / "classes.json"
        if path.exists():
            classes: list[dict[str, Any]] = json.loads(path.read_text())["classes"]
            return classes
        return [{"id": i, "name": n, "phrase": p} for i, (n, p) in enumerate(CLASSES["standard"].items(), start=1)]


def split_of(patient: str) -> str:
    """``train`` (80 %), ``val`` or ``test`` (10 % each) from the patient's name alone: adding images moves nobody."""
    number = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:4], "big") % 10
    return {8: "val", 9: "test"}.get(number, "train")
