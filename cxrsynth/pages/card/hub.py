"""What makes a dataset folder open by itself in ``datasets``: one metadata file per split, and the card's head.

Format: https://huggingface.co/docs/datasets/image_dataset. ``load_dataset`` infers the type of every column from the
first lines of each split and refuses splits that differ. So a column is written only if every split tells something in
it, texts are never null, and nested columns have the same names in every row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cxrsynth.encoding import lines
from cxrsynth.pages.summary import Summary
from cxrsynth.records import Row

NAMES = {"train": "train", "val": "validation", "test": "test"}
RESERVED = "all"
# Columns that are told otherwise, or that only matter inside the dataset.
OWN = {
    "key",
    "split",
    "image",
    "mask",
    "layers",
    "maps",
    "shard",
    "index",
    "fields",
    "scores",
    "seed",
    "attempt",
    "prompt",
}
FIRST = 1000  # rows of a split that have to tell something; the reader looks at the first ten megabytes

Rows = dict[str, list[dict[str, Any]]]


def split_name(name: object) -> str:
    """The hub's name of a split: ``val`` is ``validation``; a reserved or strange name is altered."""
    plain = NAMES.get(str(name), re.sub(r"\W+", "_", str(name or "train")))
    return f"{plain}_images" if plain == RESERVED else plain


def by_split(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Hub's split -> rows, train, validation and test first."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(split_name(row.get("split")), []).append(row)
    usual = [name for name in NAMES.values() if name in found]
    return {name: found[name] for name in [*usual, *sorted(set(found) - set(usual))]}


def table(summary: Summary, rows: Sequence[Row], files: Sequence[str]) -> Rows:
    """Hub's split -> rows of its metadata file.

    Args:
        rows: some or all rows of the dataset.
        files: columns of the rows that hold files; each becomes a column of images.

    Returns:
        Rows of plain types, each with the same columns: ``file_name`` and ``mask_file_name``, which the reader turns
        into the images ``image`` and ``mask``; ``key``, ``prompt``, ``classes`` (name -> id in the mask), ``fields``,
        ``scores``, ``seed``, ``licence``, ``synthetic``, and what else the rows say.
    """
    parts = by_split(rows)
    names = {label.name: label.id for label in summary.labels}
    fields = sorted({name for row in rows for name in row.get("fields") or {}})
    names_of_scores = sorted({name for row in rows for name in row.get("scores") or {}})
    scores = [name for name in names_of_scores if _told(parts, "scores", name)]
    others = [name for name in sorted({name for row in rows for name in row}) if name not in OWN]
    kinds = {name: kind for name in others if (kind := _kind(parts, name)) is not None}

    numbered = [name for name in ("seed", "attempt") if all(isinstance(row.get(name), int) for row in rows)]

    def line(row: Row) -> dict[str, Any]:
        found: dict[str, Any] = {("file_name" if name == "image" else f"{name}_file_name"): row[name] for name in files}
        found |= {"key": row["key"], "prompt": row.get("prompt") or "", "classes": names}
        found |= {
            "synthetic": "source" not in row,
            "licence": str(row.get("licence") or summary.licence),
        }
        found |= {name: row[name] for name in numbered}
        if fields:
            found["fields"] = {name: str((row.get("fields") or {}).get(name, "")) for name in fields}
        if scores:
            held = row.get("scores") or {}
            found["scores"] = {name: None if held.get(name) is None else float(held[name]) for name in scores}
        return found | {name: _value(row.get(name), kind) for name, kind in kinds.items() if name not in found}

    return {name: [line(row) for row in part] for name, part in parts.items()}


@dataclass(frozen=True, slots=True)
class View:
    """One configuration: a choice of rows that all have the same files.

    Attributes:
        name: of the configuration.
        metadata: stem of its metadata files.
        rows: the rows of its images.
        files: columns of the rows that hold files.
    """

    name: str
    metadata: str
    rows: list[Row]
    files: tuple[str, ...]

    def config(self, metadata: Callable[[str, str], str], tree: Callable[[str, str], str]) -> dict[str, Any]:
        """Its entry in the card's head.

        Args:
            metadata: (stem, split) -> path of a metadata file.
            tree: (column, split) -> pattern of the files of a column.
        """
        places = {split: metadata(self.metadata, split) for split in by_split(self.rows)}
        return {
            "config_name": self.name,
            "data_files": [
                # Without the images' patterns the reader takes the JSON lines for the data itself.
                {"split": split, "path": [path, *(tree(name, split) for name in self.files)]}
                for split, path in places.items()
            ],
            "metadata_filenames": list(dict.fromkeys(path.rpartition("/")[2] for path in places.values())),
        }


def views(rows: Sequence[Row]) -> list[View]:
    """The configurations of a dataset; the first one is what ``load_dataset`` gives unasked.

    A column of masks cannot be empty here and there: where only some images have one, those are the default, and the
    configuration ``images`` has all images without masks.
    """
    masked = [row for row in rows if row.get("mask")]
    first = masked or list(rows)
    files = ("image", *(name for name in ("mask", "layers") if all(row.get(name) for row in first)))
    found = [View("default", "metadata", first, files)]
    return found if len(first) == len(rows) else [*found, View("images", "images", list(rows), ("image",))]


def tree(column: str) -> str:
    """The folder of the files of a column."""
    return column if column.endswith("s") else f"{column}s"


def dataset_files(summary: Summary) -> dict[str, bytes]:
    """The metadata files that lie in a dataset folder, by name."""
    return {
        f"{view.metadata}-{split}.jsonl": lines(part)
        for view in views(summary.rows)
        for split, part in table(summary, view.rows, view.files).items()
    }


def dataset_configs(summary: Summary) -> list[dict[str, Any]]:
    """The ``configs`` of the card's head of a dataset folder."""
    return [
        view.config(lambda stem, split: f"{stem}-{split}.jsonl", lambda column, _: f"{tree(column)}/*/*.png")
        for view in views(summary.rows)
    ]


def _told(parts: Mapping[str, Sequence[Row]], *path: str) -> bool:
    """Whether every split has a value there, among the rows that the reader looks at."""

    def value(row: Row) -> Any:
        found: Any = row
        for name in path:
            found = (found or {}).get(name)
        return found

    return all(any(value(row) is not None for row in part[:FIRST]) for part in parts.values())


def _kind(parts: Mapping[str, Sequence[Row]], name: str) -> type | None:
    """How a column is written: as numbers, truth values or texts; None if not at all."""
    values = [row[name] for part in parts.values() for row in part if row.get(name) is not None]
    if not any(value != "" for value in values) or any(isinstance(value, dict) for value in values):
        return None
    if all(isinstance(value, bool) for value in values):
        return bool if len(values) == sum(map(len, parts.values())) else str
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return float if _told(parts, name) else str
    return str


def _value(value: Any, kind: type) -> Any:
    if kind is str:
        return "|".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)
    return None if value is None else kind(value)
