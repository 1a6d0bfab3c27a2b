"""Pseudonyms: names that say nothing about a patient, the same for the same patient every time.

A hash of a patient's number alone can be undone by trying all numbers, so a secret salt goes into it. The salt never
enters a dataset; without it nobody can tell whose image a key belongs to.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cxrsynth.errors import UsageError
from cxrsynth.files import write_atomic

VARIABLE = "CXRSYNTH_SALT"
DIGITS = 16


def salt_path() -> Path:
    """Where the salt of this user lies, outside every dataset."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "cxrsynth" / "salt"


def salt() -> bytes:
    """The secret of this user: ``CXRSYNTH_SALT``, or a random one that is made once and kept.

    Raises:
        UsageError: it cannot be read or kept.
    """
    given = os.environ.get(VARIABLE)
    if given:
        return given.encode()
    path = salt_path()
    try:
        if path.is_file():
            return path.read_bytes()
        write_atomic(path, secrets.token_hex(32).encode())
        path.chmod(0o600)
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the salt for pseudonyms cannot be kept in {path}: {error.strerror}", f"set {VARIABLE} to a secret text"
        ) from error


def pseudonym(secret: bytes, *parts: str) -> str:
    """16 hex digits that stand for ``parts``; which part ends where matters."""
    text = "\0".join(f"{len(part)}:{part}" for part in parts)
    return hmac.new(secret, text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:DIGITS]
