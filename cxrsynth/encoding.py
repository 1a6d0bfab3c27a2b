"""The bytes of a file from what it holds; the same value always gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def png(array: np.ndarray) -> bytes:
    """(H, W) uint8 -> the bytes of a gray PNG; the same array always gives the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(array, mode="L").save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays as a compressed ``.npz``; the same arrays always give the same bytes (no time stamps)."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]
    return buffer.getvalue()


def dumps(value: Any) -> bytes:
    """JSON for files that people read: sorted keys, indented, one newline at the end."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows).encode()


def sha256(data: bytes) -> str:
    """The sha256 of bytes, hex."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """The sha256 of a file, hex, without reading it whole."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(body: Any, fingerprint: str) -> str:
    """What binds a file without a receipt to its dataset: the sha256 of its content and the fingerprint."""
    return sha256(dumps([body, fingerprint]))
