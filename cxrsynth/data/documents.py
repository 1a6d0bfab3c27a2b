"""Small text files of a user (JSON, YAML, JSON lines): read whole and within bounds, or refused with the line."""

from __future__ import annotations

import codecs
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cxrsynth.data.paths import trouble
from cxrsynth.errors import UsageError

MOST_BYTES = 256 * 2**20
MOST_NODES = 1_000_000  # of a YAML document, aliases followed
DEEPEST = 100
MOST_ARRAY_BYTES = 2**30  # of all arrays of an .npz, unpacked

# Byte order marks, the longer before the shorter that it begins with.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path, limit: int = MOST_BYTES) -> tuple[str, list[str]]:
    """A text file in any usual encoding, with a note where the encoding was guessed.

    Byte order marks are believed; without one it is UTF-8, UTF-16 where every second byte is 0, or Windows-1252.

    Raises:
        UsageError: missing, no ordinary file, larger than ``limit`` bytes, or no text.
    """
    why = trouble(path)
    if why:
        raise UsageError(f"{path}: {why}", "name a text file that can be read")
    size = path.stat().st_size
    if size > limit:
        raise UsageError(f"{path} has {size / 2**20:.0f} MiB; at most {limit / 2**20:.0f} are read", "split the file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", "check the disk it lies on") from error
    return decode(data, str(path))


def decode(data: bytes, what: str) -> tuple[str, list[str]]:
    """Bytes as text; see `read_text`."""
    notes: list[str] = []
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), "") or _unmarked(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        try:
            if encoding != "utf-8":
                raise
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            raise UsageError(f"{what} is no text: {error.reason} at byte {error.start}", "save it as UTF-8") from None
        notes.append("read as Windows-1252, for it is not UTF-8; check the accents")
    if "\0" in text:
        raise UsageError(f"{what} is no text: it holds null bytes", "save it as UTF-8")
    return text, notes


def _unmarked(data: bytes) -> str:
    """The encoding of text without a byte order mark."""
    head = data[:4096]
    if len(head) >= 2 and head[1::2].count(0) > len(head) // 4:
        return "utf-16-le"
    return "utf-16-be" if len(head) >= 2 and head[::2].count(0) > len(head) // 4 else "utf-8"


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UsageError: as `read_text`, or it is no JSON; the message names the line.
    """
    return parse_json(read_text(path)[0], str(path))


def parse_json(text: str, what: str) -> Any:
    """JSON text -> its value."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{what} is no JSON: line {error.lineno}: {error.msg}", "fix that line") from error
    except (RecursionError, ValueError) as error:  # nested without end; an integer of thousands of digits
        raise UsageError(f"{what} is no sensible JSON: {type(error).__name__}", "write it anew") from error


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file, one a line.

    Raises:
        UsageError: as `read_json`, or a line that is no object.
    """
    for number, line in enumerate(read_text(path)[0].split("\n"), start=1):
        if not line.strip():
            continue
        value = parse_json(line, f"{path}, line {number},")
        if not isinstance(value, dict):
            raise UsageError(f"{path}, line {number}, is no JSON object", "fix that line")
        yield value


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        UsageError: as `read_text`, it is no YAML, or it unfolds into more than a person wrote.
    """
    return parse_yaml(read_text(path)[0], str(path))


def parse_yaml(text: str, what: str) -> Any:
    """YAML text -> its value, plain types only."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None and _nodes(node, {}, 0) > MOST_NODES:
            raise UsageError(f"{what} unfolds to more than {MOST_NODES} values", "write it without nested aliases")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{what} is not YAML: {' '.join(str(error).split())}", "fix the line it names") from error
    except RecursionError as error:
        raise UsageError(f"{what} is nested too deeply", f"at most {DEEPEST} levels") from error
    except ValueError as error:  # 2024-99-99 is a date to YAML
        raise UsageError(f"{what} holds a value YAML cannot read: {error}", "quote it") from error


def _nodes(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """How many values a node unfolds to; a node that holds itself has no end.

    Raises:
        RecursionError: deeper than `DEEPEST`.
    """
    if depth > DEEPEST:
        raise RecursionError
    if id(node) not in known:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [one for pair in node.value for one in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        known[id(node)] = 1 + sum(_nodes(one, known, depth + 1) for one in inner)
    return known[id(node)]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``; objects are never unpacked.

    Raises:
        UsageError: missing, damaged, or larger unpacked than `MOST_ARRAY_BYTES`.
    """
    why = trouble(path)
    if why:
        raise UsageError(f"{path}: {why}", "name an .npz that can be read")
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(member.file_size for member in packed.infolist())
        if size > MOST_ARRAY_BYTES:
            raise UsageError(f"{path} unpacks to {size / 2**30:.1f} GiB", "it holds no maps of one image")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except UsageError:
        raise
    except Exception as error:  # a decoder that is given garbage may raise anything
        raise UsageError(f"{path} is damaged: {error}", "write it anew") from error
