"""A long list in a text file: where its lines begin is kept in memory, the lines stay on the disk."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from cxrsynth.data.documents import read_text
from cxrsynth.data.paths import trouble
from cxrsynth.errors import UsageError


class Lines(Sequence[str]):
    """The lines of a UTF-8 file that are not empty, stripped, eight bytes of memory each.

    Raises:
        ValueError: the file is in another encoding, or its lines end in an unusual way.
        UsageError: while it is read: it changed since it was opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "rb")  # noqa: SIM115 - read from as long as this lives
        self._state = self._now()
        self._starts = array("q")
        place = 0
        for raw in self._file:
            if b"\0" in raw or (place == 0 and raw.startswith(b"\xff\xfe")):
                raise ValueError(f"{path} is no UTF-8")
            text = raw.decode("utf-8-sig")
            if len(text.splitlines()) > 1:
                raise ValueError(f"{path} has other ends of lines than a newline")
            if text.strip():
                self._starts.append(place)
            place += len(raw)

    def _now(self) -> tuple[int, int]:
        found = os.fstat(self._file.fileno())
        return found.st_size, found.st_mtime_ns

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if self._now() != self._state:
            raise UsageError(f"{self.path} changed while it was read", "re-run the same command")
        self._file.seek(self._starts[index])
        return self._file.readline().decode("utf-8-sig").strip()


def read_lines(path: Path) -> Sequence[str]:
    """The lines of a text file that are not empty, stripped; in memory only where its encoding is an unusual one.

    Raises:
        UsageError: as `read_text`.
    """
    if not trouble(path):
        try:
            return Lines(path)
        except (ValueError, OSError):
            pass  # read as a whole, which knows other encodings, or says what is wrong
    return tuple(line.strip() for line in read_text(path)[0].splitlines() if line.strip())
