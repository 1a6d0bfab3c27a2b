"""What a command answers: prose on stderr for people, JSON on stdout where ``--json`` asks for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from cxrsynth.console import console

APART = 3  # images with one reason that are named one by one


def answer(value: Any, as_json: bool) -> None:
    """Tell a result: a mapping as lines, a list of mappings as a table.

    Args:
        value: of plain types, as JSON has them.
    """
    if as_json:
        print(json.dumps(value, indent=2, ensure_ascii=False))
        return
    if isinstance(value, Mapping):
        for name, item in flat(value):
            console.print(Text(f"{name}: {shown(item)}"))
    elif value:
        columns = list(dict.fromkeys(name for row in value for name in row))
        table = Table(box=None, pad_edge=False)
        for name in columns:
            table.add_column(Text(words(name)))
        for row in value:
            table.add_row(*(Text(shown(row.get(name, ""))) for name in columns))
        console.print(table)


def tell_refused(refused: Iterable[tuple[str, str]]) -> None:
    """Say which images are not there, as (name, reason); a reason that many share is told once, with their number."""
    names: dict[str, list[str]] = {}
    for name, reason in refused:
        names.setdefault(reason, []).append(name)
    for reason, of in names.items():
        lines = [f"refused {name}: {reason}" for name in of]
        if len(of) > APART:
            lines = [f"refused {len(of)} images: {reason}; the first is {of[0]}"]
        for line in lines:
            console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def tell_turned(turned: int, images: int) -> None:
    """Say how many images were not upright; nothing where all were."""
    if turned:
        console.print(f"{turned} of {images} images were not upright and have been turned; --polarity keep leaves them")


def flat(value: Mapping[str, Any], within: str = "") -> list[tuple[str, Any]]:
    """``{"a": {"b": 1}}`` -> ``[("a b", 1)]``."""
    found: list[tuple[str, Any]] = []
    for name, item in value.items():
        full = f"{within} {words(name)}".strip()
        found += flat(item, full) if isinstance(item, Mapping) else [(full, item)]
    return found


def words(name: str) -> str:
    """A key as people read it."""
    return str(name).replace("_", " ")


def shown(value: Any) -> str:
    """A value as people read it: three digits of a fraction, a list with commas, nothing for nothing."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:.2g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(shown, value)) or "none"
    return str(value)
