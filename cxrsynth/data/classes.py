"""The one reader of ``classes.json``: which pixel value stands for which class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxrsynth.data.documents import read_json
from cxrsynth.errors import UsageError

LARGEST = 254  # masks have 8 bits; 0 is background, 255 what nobody decided
EXAMPLE = '{"classes": [{"name": "lung", "id": 1, "phrase": "lung"}]}'

Colour = tuple[int, int, int]


def read_classes(path: Path, empty: bool = False) -> list[dict[str, Any]]:
    """The classes of a dataset or of a folder of masks, in the order of the file.

    Read are ``{"classes": [{"name", "id", "phrase", "colour"}]}``, the list alone, a list of names (numbered from 1),
    and ``{"labels": {"lung": 1}}``. A missing phrase is the name in words; background may be named and is left out.

    Args:
        empty: accept a list without classes, as a dataset without masks has it.

    Returns:
        One mapping per class with at least ``name`` (snake_case), ``id`` (1 to 254) and ``phrase``; other keys stay.

    Raises:
        UsageError: not of that form; the message names the class and what is wrong with it.
    """
    body = read_json(path)
    if isinstance(body, Mapping):
        body = body.get("classes", body.get("labels", body))
    if isinstance(body, Mapping):
        body = [{"name": name, "id": number} for name, number in body.items()]
    if empty and body == []:
        return []
    if not isinstance(body, list) or not body:
        raise UsageError(f"{path} lists no classes", f"write for example: {EXAMPLE}")
    if len(body) > LARGEST + 1:
        raise UsageError(f"{path} lists {len(body)} classes; masks of 8 bits hold {LARGEST}", "merge some of them")
    found = [_one(path, item, number) for number, item in enumerate(body, start=1)]
    found = [item for item in found if item["id"]]
    for field in ("name", "id"):
        values = [item[field] for item in found]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise UsageError(f"{path} gives the {field} {twice} to two classes", f"every class has its own {field}")
    if not found:
        raise UsageError(f"{path} lists no class but background", f"write for example: {EXAMPLE}")
    return found


def _one(path: Path, item: Any, number: int) -> dict[str, Any]:
    """One class of the file."""
    item = {"name": item, "id": number} if isinstance(item, str) else item
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        raise UsageError(f"{path}: class {number} has no name", f"write for example: {EXAMPLE}")
    name = class_name(item["name"])
    if not name:
        raise UsageError(f"{path}: {item['name']!r} is no class name", "small letters, digits and _: right_lung")
    identity = item.get("id")
    if isinstance(identity, str) and identity.strip().isdecimal() and len(identity) < 6:
        identity = int(identity)
    background = identity == 0 and name == "background"
    if isinstance(identity, bool) or not isinstance(identity, int) or not (background or 1 <= identity <= LARGEST):
        raise UsageError(
            f"{path}: class '{name}' has the id {str(identity)[:20]!r}", f"ids are 1 to {LARGEST}: masks have 8 bits"
        )
    phrase = item.get("phrase") or name.replace("_", " ")
    if not isinstance(phrase, str):
        raise UsageError(f"{path}: the phrase of class '{name}' is no text", f"for example: {EXAMPLE}")
    return {**item, "name": name, "id": identity, "phrase": phrase}


def class_name(text: str) -> str:
    """``Right Lung`` -> ``right_lung``; empty where nothing is left to name a class."""
    name = re.sub(r"[^a-z0-9]+", "_", text.strip().lower()).strip("_")
    return name if re.fullmatch(r"[a-z][a-z0-9_]*", name) else ""


def colours(path: Path, classes: list[dict[str, Any]]) -> dict[Colour, int]:
    """Colour -> id, of the classes that have a ``colour`` (``[255, 0, 0]`` or ``"#ff0000"``).

    Raises:
        UsageError: a colour that is none.
    """
    found: dict[Colour, int] = {}
    for item in classes:
        value = item.get("colour", item.get("color"))
        if value is None:
            continue
        if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value.strip()):
            value = list(bytes.fromhex(value.strip()[1:]))
        if not (isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value)):
            raise UsageError(f"{path}: class '{item['name']}' has no colour {value!r}", 'for example: "#ff0000"')
        found[value[0], value[1], value[2]] = item["id"]
    return found
