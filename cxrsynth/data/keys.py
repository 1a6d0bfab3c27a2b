"""Keys: the names of images in a dataset, which are file names on every system and never two alike."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from cxrsynth.errors import MismatchError

# With an ending and a temporary prefix a file name stays below the 255 bytes that file systems allow.
MOST_BYTES = 120
WINDOWS = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}


def digest(name: str) -> str:
    """Eight hex digits that belong to a name, whatever bytes it has."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def safe(name: str) -> str:
    """A name that is a file stem on every system.

    Letters and digits of every script stay (composed, NFC); all else becomes ``_``. What is empty, too long or no text
    then gets a hash of the whole name.
    """
    composed = unicodedata.normalize("NFC", name)
    text = re.sub(r"[^\w.-]+", "_", composed).strip("._")
    if text.partition(".")[0].lower() in WINDOWS:
        text = f"image_{text}"
    if not text or any("\ud800" <= char <= "\udfff" for char in name):
        return f"{_cut(text) or 'image'}-{digest(name)}"
    return text if len(text.encode()) <= MOST_BYTES else f"{_cut(text)}-{digest(name)}"


def _cut(text: str) -> str:
    """The beginning of a name, leaving room for a hash; never half a character."""
    return text.encode("utf-8", "ignore")[: MOST_BYTES - 9].decode("utf-8", "ignore").strip("._")


def fold(key: str) -> str:
    """What two keys share if they name one file where case does not count."""
    return unicodedata.normalize("NFC", key).casefold()


class Keys:
    """Hands out keys, each once."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def take(self, *names: str) -> str:
        """A key that nobody has yet.

        Args:
            names: the name wished for, then longer ones that tell more; a hash of the last one where all are taken.
        """
        for wish in names:
            if self._free(safe(wish)):
                return safe(wish)
        last, turn = names[-1], 0
        while not self._free(key := f"{_cut(safe(names[0]))}-{digest(last if not turn else f'{last} {turn}')}"):
            turn += 1
        return key

    def _free(self, key: str) -> bool:
        """Take a key if it is free."""
        if fold(key) in self.taken:
            return False
        self.taken.add(fold(key))
        return True

    def add(self, key: object) -> None:
        """Take a key as it is: the last door before files are written.

        Raises:
            MismatchError: it is no file stem, or somebody has it.
        """
        if not isinstance(key, str) or key != safe(key):
            raise MismatchError(f"the key {str(key)[:200]!r} is not the name of a file", "rename the image")
        if not self._free(key):
            raise MismatchError(f"the key '{key}' comes twice", "give every image a name of its own")


def check(keys: Iterable[object]) -> None:
    """Refuse keys that are no file stems or come twice; `Keys.add` for many."""
    taken = Keys()
    for key in keys:
        taken.add(key)
