"""Layout ``collection``: several sources side by side, described image by image in one ``metadata.csv``.

DIR/metadata.csv                 one row per image: id, source, use, licence, split, caption, mask, ...
DIR/<source>/images/<id>.jpg
DIR/<source>/masks/<id>.png      the ``mask`` column is relative to the source's folder
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from cxrsynth.data.classes import class_name
from cxrsynth.data.keys import Keys
from cxrsynth.data.paths import inside
from cxrsynth.data.tables import Table, age, read_table, split_name
from cxrsynth.errors import UsageError
from cxrsynth.ingest.folder import split_of
from cxrsynth.ingest.image import CLASSES, SourceImage
from cxrsynth.records import Row
from cxrsynth.registry import unknown

NEEDED = ("id", "source", "use", "split", "caption")
KEPT = (
    "source", "licence", "use", "view", "sex", "age", "population", "findings", "text", "mask_definition",
    "aspect_known", "flags", "boxes_nih", "boxes_rsna",
)  # fmt: skip
# Masks whose licence forbids their use for weights that are given away lie in a folder of this name.
BENCHMARK_MASKS = "masks_nc"
SUFFIXES = (".jpg", ".png", ".jpeg", ".tif", ".tiff")
USES = ("open", "test")  # may be trained on, or only measured on
BENCHMARK_HINT = "add --benchmark to measure on it"


class Collection:
    """Images for training by default; what may only be used to measure comes with ``benchmark``.

    Args:
        root: folder with ``metadata.csv``.
        sources: names of the sources to take; all that may be trained on by default.
        benchmark: also take images of external test sets, and masks whose licence allows benchmarks only.
        definitions: mask definitions to take; each has its own class names.
    """

    found = None

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
        known = sorted({row["source"] for row in self.rows})
        for name in sources:
            if name not in known:
                raise unknown("sources", name, known)
        self.sources = tuple(sources) or tuple(known)
        self.notes: list[str] = []
        self.options: dict[str, Any] = {
            "sources": list(self.sources),
            "benchmark": benchmark,
            "definitions": list(self.definitions),
        }
        for name in self.sources if not benchmark else ():
            only_tests = all(row["use"] == "test" for row in self.rows if row["source"] == name)
            if only_tests and (sources or len(known) == 1):
                raise UsageError(
                    f"'{name}' is an external test set: nothing may be trained or tuned on it", BENCHMARK_HINT
                )
        if not benchmark and all(row["use"] == "test" for row in self.rows):
            raise UsageError(f"every image of {root} is of an external test set", BENCHMARK_HINT)

    @cached_property
    def table(self) -> Table:
        """``metadata.csv`` as it is.

        Raises:
            UsageError: missing, unreadable, without a column that is needed, or without a row.
        """
        path = self.root / "metadata.csv"
        if not path.exists():
            raise UsageError(
                f"{path} is missing", "point to the folder that holds metadata.csv, or use --layout folder"
            )
        table = read_table(inside(self.root, "metadata.csv"), NEEDED)
        if not table.rows:
            raise UsageError(f"{path} describes no image", "write one line per image below the names of the columns")
        if "mask" in table.columns and "mask_classes" not in table.columns and any(row["mask"] for row in table.rows):
            raise UsageError(
                f"{path} has a column 'mask' and no column 'mask_classes'",
                "say what the values 1, 2, ... stand for: right_lung|left_lung|heart",
            )
        return table

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """All rows of ``metadata.csv``, their use and split checked.

        Raises:
            UsageError: naming the line.
        """
        checked: list[dict[str, str]] = []
        seen: dict[tuple[str, str], int] = {}
        for position, row in enumerate(self.table.rows):
            where, use = self.table.where(position), row["use"].lower()
            if not row["id"] or not row["source"]:
                raise UsageError(f"{where}, has no id or no source", "every image has both")
            if use not in USES:
                raise UsageError(f"{where}: use '{row['use']}' is none of {', '.join(USES)}", "fix that line")
            before = seen.setdefault((row["source"], row["id"]), position)
            if before != position:
                raise UsageError(
                    f"{where}, names {row['id']} of {row['source']} again, after line {self.table.numbers[before]}",
                    "give every image one line",
                )
            try:
                split = split_name(row["split"])
            except ValueError as error:
                raise UsageError(f"{where}: {error}", "write train, val or test") from error
            patient = row.get("group_id") or row.get("patient_id") or row["id"]
            checked.append({**row, "use": use, "split": split or split_of(patient), "patient": patient, "where": where})
        return checked

    def images(self) -> Iterator[SourceImage]:
        """The images of the chosen sources in the order of the table."""
        self.notes = list(self.table.notes)
        keys = Keys()
        held = 0
        for row in self.rows:
            if row["source"] not in self.sources:
                continue
            if row["use"] == "test" and not self.benchmark:
                held += 1
                continue
            # Two sources may number their images alike; the second one is told apart by its source.
            yield self.image(keys.take(row["id"], f"{row['source']}_{row['id']}"), row)
        if held:
            self.notes.append(f"{held} images of external test sets left out; {BENCHMARK_HINT}")

    def image(self, key: str, row: dict[str, str]) -> SourceImage:
        """One row of the table as an image.

        Raises:
            UsageError: a mask with a class nobody knows.
        """
        mask = row.get("mask", "")
        definition = row.get("mask_definition", "")
        only_benchmark = mask.startswith(BENCHMARK_MASKS)
        if definition not in self.definitions or (only_benchmark and not self.benchmark):
            mask = ""
        labels = self.labels(row, definition) if mask else {}
        notes: list[str] = []
        years: float | None = None
        try:
            years = age(row.get("age", ""))
        except ValueError as error:
            notes.append(str(error))
        meta: Row = {name: row.get(name, "") for name in KEPT}
        meta |= {
            "key": key,
            "prompt": row["caption"],
            "split": row["split"],
            "patient": row["patient"],
            "age": years,
            "mask_use": "" if not mask else "benchmark" if only_benchmark or row["use"] == "test" else "train",
            "mask_classes": list(labels.values()),
        }
        reason, path, place = "", self.root, None
        try:
            path = self.picture(row)
            place = inside(self.root, f"{row['source']}/{mask}") if mask else None
        except UsageError as error:
            reason = error.message
        content = None
        try:
            content = box(row.get("content_box", ""))
        except (ValueError, OverflowError):
            reason = reason or f"content_box '{row['content_box']}' is not left top right bottom"
        return SourceImage(key, path, meta, place, labels, content, reason=reason, notes=tuple(notes))

    def picture(self, row: dict[str, str]) -> Path:
        """The file of a row, the first that is there.

        Raises:
            UsageError: its path would leave the folder.
        """
        places = [inside(self.root, f"{row['source']}/images/{row['id']}{suffix}") for suffix in SUFFIXES]
        return next((path for path in places if path.exists()), places[0])

    def labels(self, row: dict[str, str], definition: str) -> dict[int, str]:
        """Pixel value -> class name of a row's mask.

        Raises:
            UsageError: a class that its definition does not know.
        """
        suffix = "" if definition == "standard" else f"_{definition}"
        known = CLASSES[definition]
        found: dict[int, str] = {}
        for value, word in enumerate(row.get("mask_classes", "").split("|"), start=1):
            name = f"{class_name(word)}{suffix}"
            if name not in known:
                error = unknown("classes", word, [one.removesuffix(suffix) for one in known])
                raise UsageError(f"{row['where']}: {error.message} in mask_classes", error.hint)
            found[value] = name
        return found

    def classes(self) -> list[dict[str, Any]]:
        """The classes that occur in the masks of the chosen images, numbered from 1."""
        used = {name for image in self.images() for name in image.labels.values()}
        every = {name: phrase for definition in CLASSES.values() for name, phrase in definition.items()}
        names = [name for name in every if name in used] or list(CLASSES["standard"])
        return [{"id": i, "name": name, "phrase": every[name]} for i, name in enumerate(names, start=1)]


def box(text: str) -> tuple[int, int, int, int] | None:
    """``"left top right bottom"`` -> four pixel positions, None where the column is empty.

    Raises:
        ValueError: anything else.
    """
    if not text.strip():
        return None
    left, top, right, bottom = (int(float(part)) for part in text.split())
    return left, top, right, bottom
