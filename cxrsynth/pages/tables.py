"""Tables of the README and of model cards, from ``results/*.json`` and never by hand.

A table stands between ``<!-- table: speed rows=arm columns=metric -->`` and ``<!-- /table -->``. The first word is the
benchmark (``results/<benchmark>.json``); ``rows`` and ``columns`` name the fields that span the table; any other
``field=value`` picks the records with that value; an underscore stands for a space. Where there are none yet, the page
says `NOT_YET`: a page may have the place of a figure before somebody has the machine to measure it.

    python -m cxrsynth.pages.tables README.md
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from cxrsynth.errors import UsageError
from cxrsynth.evaluate.results import Record
from cxrsynth.files import write_atomic

NOT_YET = "Not measured yet.\n"
BLOCK = re.compile(r"(<!-- table: (\w+)((?: [\w-]+=\S+)*) -->\n).*?(<!-- /table -->)", re.DOTALL)


def render(text: str, results: Path) -> str:
    """A Markdown text with every table made anew.

    Args:
        results: folder of the ``<benchmark>.json`` files.

    Raises:
        UsageError: a table names a field that its records do not have.
    """

    def fill(match: re.Match[str]) -> str:
        path = results / f"{match[2]}.json"
        options = dict(option.split("=", 1) for option in match[3].split())
        body = table(json.loads(path.read_text()), **options) if path.exists() else NOT_YET
        return f"{match[1]}{body}{match[4]}"

    return BLOCK.sub(fill, text)


def table(records: list[Record], rows: str = "arm", columns: str = "metric", **only: str) -> str:
    """Records as one Markdown table, rows and columns in the order in which they were measured; `NOT_YET` without any.

    Raises:
        UsageError: a field that the records do not have.
    """
    for name in (rows, columns, *only):
        if any(name not in record for record in records):
            raise UsageError(f"no record has a field '{name}'", "name fields of the records: arm, class, metric ...")
    picked = [record for record in records if all(_same(record[name], value) for name, value in only.items())]
    if not picked:
        return NOT_YET
    across = list(dict.fromkeys(str(record[columns]) for record in picked))
    down = list(dict.fromkeys(str(record[rows]) for record in picked))
    cells = {(str(record[rows]), str(record[columns])): cell(record) for record in picked}
    lines = [f"| {rows} | {' | '.join(plain(name) for name in across)} | n |", "|---" * (len(across) + 2) + "|"]
    for row in down:
        counts = sorted({record["n"] for record in picked if str(record[rows]) == row})
        filled = " | ".join(cells.get((row, column), "") for column in across)
        lines.append(f"| {plain(row)} | {filled} | {', '.join(map(str, counts))} |")
    return "\n".join(lines) + "\n"


def _same(field: object, wanted: str) -> bool:
    return str(field).replace(" ", "_") == wanted.replace(" ", "_")


def cell(record: Record) -> str:
    """``0.95 (0.94-0.96)``: a value with its interval, where it has one; ``to`` where a minus would be misread.

    A record with a ``sign`` other than ``=`` is a bound: ``< 8``.
    """
    sign = record.get("sign", "=")
    value = number(record["value"]) if sign == "=" else f"{sign} {number(record['value'])}"
    if record["lo"] is None or record["hi"] is None or record["lo"] != record["lo"]:
        return value
    dash = " to " if record["lo"] < 0 else "-"
    return f"{value} ({number(record['lo'])}{dash}{number(record['hi'])})"


def number(value: float) -> str:
    """Three figures are enough for any of ours."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def plain(name: str) -> str:
    """A field's value as a heading."""
    return name.replace("_", " ").replace("|", "/").replace("<", "&lt;").replace("[", "\\[")


def main() -> None:
    """Rewrite the files named on the command line in place."""
    for name in sys.argv[1:]:
        path = Path(name)
        write_atomic(path, render(path.read_text(encoding="utf-8"), Path("results")).encode())


if __name__ == "__main__":
    main()
