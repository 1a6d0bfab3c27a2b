"""A folder of results that is there as a whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

Write = Callable[[Path], Any]


def publish(folder: Path, write: Write) -> None:
    """Let ``write`` fill a folder beside ``folder`` and put it there as a whole, in place of what was there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".tmp-{folder.name}-{uuid4().hex[:8]}")
    old = folder.with_name(f".tmp-old-{folder.name}-{uuid4().hex[:8]}")
    try:
        write(temporary)
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
