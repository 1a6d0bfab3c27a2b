"""The one reader of CSV files, whatever program wrote them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrsynth.data.documents import read_text
from cxrsynth.errors import UsageError

DELIMITERS = ",;\t"
LONGEST = 2**20  # characters of a cell: a report is no book
SHOWN = 5
# Columns that a dataset fills itself; what a table has under such a name is kept as ``given_NAME``.
RESERVED = frozenset(
    {"key", "image", "mask", "maps", "layers", "shard", "index", "attempt", "seed", "scores", "present", "phrases"}
    | {
        "fields",
        "control",
        "aspect",
        "squashed",
        "content_box",
        "mask_use",
        "mask_classes",
        "film_sha256",
        "image_sha256",
    }
)
SPLITS = {
    "train": ("train", "training", "trn", "tr"),
    "val": ("val", "valid", "validation", "dev", "development", "tune", "tuning"),
    "test": ("test", "testing", "tst", "eval", "evaluation"),
}
NOTHING = {"", "na", "n/a", "nan", "none", "null", "unknown", "-", "?"}
# DICOM writes 058Y, 006M, 012W, 030D; people write 58, 58 y, 58 years.
UNITS = {"y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}


@dataclass(frozen=True, slots=True)
class Table:
    """A table as a user gave it.

    Attributes:
        path: its file.
        columns: their names, in order.
        rows: one mapping per line that is not empty, column -> text without blanks at its ends.
        numbers: the line of every row in the file, from 1.
        notes: what was not as it should be, though it could be read.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    numbers: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def where(self, position: int) -> str:
        """A row as messages name it."""
        return f"{self.path}, line {self.numbers[position]}"


def read_table(path: Path, needed: Sequence[str] = (), reserved: bool = False) -> Table:
    """Read a CSV file: comma, semicolon or tab; UTF-8, UTF-16 or Windows-1252.

    Args:
        needed: columns that have to be there; their names are found whatever their case.
        reserved: set columns aside that a dataset fills itself, see `RESERVED`.

    Raises:
        UsageError: it cannot be read, a needed column is missing, or a line has more or fewer cells than the header has
            names: a comma that nobody quoted would cut a text and shift all behind it.
    """
    text, notes = read_text(path)
    lines = _cells(path, text)
    if not lines:
        raise UsageError(
            f"{path} is empty", f"its first line names the columns: {', '.join(needed) or 'file, caption'}"
        )
    header, kept = _header(path, lines[0][1], needed)
    wrong = [(n, len(cells)) for n, cells in lines[1:] if len(cells) < len(header) or any(cells[len(header) :])]
    if wrong:
        listed = ", ".join(f"line {number} has {cells}" for number, cells in wrong[:SHOWN])
        more = f" and {len(wrong) - SHOWN} more lines" if len(wrong) > SHOWN else ""
        raise UsageError(
            f"{path} names {len(header)} columns, but {listed} cells{more}",
            'put a text that holds the delimiter in quotes: "Frontal view, no finding"; fill short lines up',
        )
    if reserved:
        aside = [name for name in kept.values() if name in RESERVED]
        kept = {place: f"given_{name}" if name in RESERVED else name for place, name in kept.items()}
        notes += [f"column '{name}' is kept as 'given_{name}': a dataset fills '{name}' itself" for name in aside]
    rows = tuple({name: cells[place].strip() for place, name in kept.items()} for _, cells in lines[1:])
    return Table(path, tuple(kept.values()), rows, tuple(number for number, _ in lines[1:]), tuple(notes))


def _cells(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """(line, cells) of every line that is not empty."""
    first, _, rest = text.partition("\n")
    start, delimiter = 0, ""
    told = re.fullmatch(r"sep=(.)\s*", first)  # Excel's own way to say it
    if told:
        text, start, delimiter = rest, 1, told.group(1)
        first = rest.partition("\n")[0]
    unquoted = re.sub(r'"[^"]*"', "", first)
    delimiter = delimiter or max(DELIMITERS, key=unquoted.count)
    limit = csv.field_size_limit(LONGEST)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found: list[tuple[int, list[str]]] = []
    try:
        before = 0
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found.append((before + 1 + start, cells))
            before = reader.line_num
    except csv.Error as error:
        raise UsageError(
            f"{path}, line {reader.line_num + start}: {error}", "check the quotes around the cells of that line"
        ) from error
    finally:
        csv.field_size_limit(limit)
    return found


def _header(path: Path, cells: Sequence[str], needed: Sequence[str]) -> tuple[list[str], dict[int, str]]:
    """All names of the first line, and (place -> name) of those that have one: an index column has none."""
    exact = {name.casefold(): name for name in needed}
    names = [exact.get(cell.strip().casefold(), cell.strip()) for cell in cells]
    while names and not names[-1]:
        names.pop()
    kept = {place: name for place, name in enumerate(names) if name}
    twice = sorted({name for name in kept.values() if list(kept.values()).count(name) > 1})
    if twice:
        raise UsageError(f"{path} names the column {', '.join(twice)} twice", "give every column a name of its own")
    missing = [name for name in needed if name not in kept.values()]
    if missing:
        listed = ", ".join(list(kept.values())[:20])
        raise UsageError(
            f"{path} has no column {', '.join(repr(name) for name in missing)}",
            f"its columns: {listed}; needed: {', '.join(needed)}",
        )
    return names, kept


def split_name(text: str) -> str:
    """``train``, ``val`` or ``test`` for what people call them; empty for an empty text.

    Raises:
        ValueError: any other word; to guess would put a test image among those to learn from.
    """
    word = text.strip().lower()
    if not word:
        return ""
    for split, names in SPLITS.items():
        if word in names:
            return split
    raise ValueError(f"split '{text}' is none of train, val, test")


def age(text: str) -> float | None:
    """Years from ``58``, ``058Y``, ``18M``, ``3 weeks``; None where nothing is said.

    Raises:
        ValueError: anything else, or an age nobody has.
    """
    word = text.strip().lower()
    if word in NOTHING:
        return None
    found = re.fullmatch(r"(\d{1,4}(?:[.,]\d{1,6})?)\s*(y|yrs?|years?|yo|m|months?|w|weeks?|d|days?)?\.?", word)
    years = float(found.group(1).replace(",", ".")) * UNITS[(found.group(2) or "y")[0]] if found else -1.0
    if not 0 <= years <= 130:
        raise ValueError(f"age '{text}' is no age")
    return round(years, 3)


# mm in the pixels of the file: no detector has larger ones than this.
LARGEST_PIXEL = 10.0
NUMBER = r"(\d{1,2}(?:[.,]\d{1,8})?)"


def spacing(text: str) -> list[float] | None:
    """mm between the rows and between the columns of an image, from ``0.143`` (both), ``0.143 0.139`` or what DICOM
    writes, ``0.143\\0.139``; None where nothing is said.

    Raises:
        ValueError: anything else, or a distance that no pixels have.
    """
    word = text.strip().lower().strip("[]()").removesuffix("mm").strip()
    if word in NOTHING:
        return None
    found = re.fullmatch(NUMBER, word) or re.fullmatch(NUMBER + r"(?:\s*[\\x;|]\s*|,\s*|\s+)" + NUMBER, word)
    values = [float(one.replace(",", ".")) for one in found.groups()] if found else []
    if not values or not all(0 < value <= LARGEST_PIXEL for value in values):
        raise ValueError(f"pixel spacing '{text}' is no distance in mm")
    return [values[0], values[-1]]
