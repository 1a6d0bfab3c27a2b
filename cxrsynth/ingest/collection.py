"""Layout ``collection``: several sources side by side, described image by image in one ``metadata.csv``.

DIR/metadata.csv                 one row per image: id, source, use, licence, split, caption, mask, ...
DIR/<source>/images/<id>.jpg
DIR/<source>/masks/<id>.png      the ``mask`` column is relative to the source's folder
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from cxrsynth.errors import UsageError
from cxrsynth.ingest.image import CLASSES, SourceImage
from cxrsynth.registry import unknown
from cxrsynth.store import Row

NEEDED = ("id", "source", "use", "split", "caption")
KEPT = (
    "source", "licence", "use", "view", "sex", "age", "population", "findings", "text", "mask_definition",
    "aspect_known", "flags", "boxes_nih", "boxes_rsna",
)  # fmt: skip
# Masks whose licence forbids their use for weights that are given away lie in a folder of this name.
BENCHMARK_MASKS = "masks_nc"
SUFFIXES = (".jpg", ".png", ".jpeg", ".tif", ".tiff")


class Collection:
    """Images for training by default; what may only be used to measure comes with ``benchmark``.

    Args:
        root: folder with ``metadata.csv``.
        sources: names of the sources to take; all that may be trained on by default.
        benchmark: also take images of external test sets, and masks whose licence allows benchmarks only.
        definitions: mask definitions to take; each has its own class names.
    """

    def __init__(
        self,
        root: Path,
        sources: Sequence[str] = (),
        benchmark: bool = False,
        definitions: Sequence[str] = ("standard",),
    ) -> None:
        self.root = root
        self.benchmark = benchmark
        for name in definitions:
            if name not in CLASSES:
                raise unknown("definitions", name, sorted(CLASSES))
        self.definitions = tuple(definitions)
        known = sorted({row["source"] for row in self.table})
        for name in sources:
            if name not in known:
                raise unknown("sources", name, known)
        self.sources = tuple(sources) or tuple(known)
        self.options: dict[str, Any] = {
            "sources": list(self.sources),
            "benchmark": benchmark,
            "definitions": list(self.definitions),
        }
        if sources and not benchmark:
            for name in sources:
                if all(row["use"] == "test" for row in self.table if row["source"] == name):
                    raise UsageError(
                        f"'{name}' is an external test set: nothing may be trained or tuned on it",
                        "add --benchmark to measure on it",
                    )

    @cached_property
    def table(self) -> list[dict[str, str]]:
        """All rows of ``metadata.csv``."""
        path = self.root / "metadata.csv"
        if not path.exists():
            raise UsageError(
                f"{path} is missing", "point to the folder that holds metadata.csv, or use --layout folder"
            )
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        missing = [name for name in NEEDED if not rows or name not in rows[0]]
        if missing:
            raise UsageError(f"{path} lacks the columns {', '.join(missing)}", f"needed: {', '.join(NEEDED)}")
        return rows

    def images(self) -> Iterator[SourceImage]:
        """The images of the chosen sources in the order of the table."""
        seen: set[str] = set()
        for row in self.table:
            if row["source"] not in self.sources or (row["use"] == "test" and not self.benchmark):
                continue
            # Two sources may number their images alike; the second one is told apart by its source.
            key = safe(row["id"]) if safe(row["id"]) not in seen else safe(f"{row['source']}_{row['id']}")
            seen.add(key)
            yield self.image(key, row)

    def image(self, key: str, row: dict[str, str]) -> SourceImage:
        """One row of the table as an image."""
        folder = self.root / row["source"]
        mask = row.get("mask", "")
        definition = row.get("mask_definition", "")
        only_benchmark = mask.startswith(BENCHMARK_MASKS)
        if definition not in self.definitions or (only_benchmark and not self.benchmark):
            mask = ""
        labels: dict[int, str] = {}
        if mask:
            suffix = "" if definition == "standard" else f"_{definition}"
            labels = {i: f"{name}{suffix}" for i, name in enumerate(row["mask_classes"].split("|"), start=1)}
        meta: Row = {name: row.get(name, "") for name in KEPT}
        meta |= {
            "key": key,
            "prompt": row["caption"],
            "split": row["split"],
            "patient": row.get("group_id") or row.get("patient_id") or row["id"],
            "age": float(row["age"]) if row.get("age") else None,
            "mask_use": "" if not mask else "benchmark" if only_benchmark or row["use"] == "test" else "train",
            "mask_classes": list(labels.values()),
        }
        picture = next((p for p in (folder / "images" / f"{row['id']}{s}" for s in SUFFIXES) if p.exists()), None)
        return SourceImage(
            key=key,
            path=picture or folder / "images" / f"{row['id']}{SUFFIXES[0]}",
            row=meta,
            mask=folder / mask if mask else None,
            labels=labels,
            box=box(row.get("content_box", "")),
        )

    def classes(self) -> list[dict[str, Any]]:
        """The classes that occur in the masks of the chosen images, numbered from 1."""
        used = {name for image in self.images() for name in image.labels.values()}
        every = {name: phrase for definition in CLASSES.values() for name, phrase in definition.items()}
        names = [name for name in every if name in used] or list(CLASSES["standard"])
        return [{"id": i, "name": name, "phrase": every[name]} for i, name in enumerate(names, start=1)]


def safe(name: str) -> str:
    """A name that is a file stem on every system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "image"


def box(text: str) -> tuple[int, int, int, int] | None:
    """``"left top right bottom"`` -> four pixel positions, None where the column is empty."""
    if not text.strip():
        return None
    left, top, right, bottom = (int(float(part)) for part in text.split())
    return left, top, right, bottom
