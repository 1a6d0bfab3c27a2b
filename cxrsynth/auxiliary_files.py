"""Files of the small networks that recipes name beside the model: where they are, and what they say of themselves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cxrsynth.data import documents
from cxrsynth.errors import MissingError, UsageError
from cxrsynth.weights import MODELS, hash_of


class Auxiliary(NamedTuple):
    """A kind of small networks that recipes name beside the model.

    Attributes:
        kind: as the bundled file is called, ``mini.<kind>.safetensors``.
        format: what such a file calls itself.
        make: the command that makes one.
    """

    kind: str
    format: str
    make: str


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """Marks a field of a recipe that names the file of a small network: ``Annotated[str, NetworkFile("head")]``.

    Such files are looked for beside the recipe, and are in the fingerprint by their content. A field without the mark
    may be called as it likes.

    Attributes:
        key: which kind of network, see `AUXILIARY`.
    """

    key: str


# By the key of a recipe that names the file.
AUXILIARY = {
    "weights": Auxiliary("affinity", "cxrsynth-affinity-1", "cxrsynth train-affinity PILOT -o FILE"),
    "head": Auxiliary("mask_head", "cxrsynth-decoder-2", "cxrsynth train-mask-head DATA -o FILE"),
    "network": Auxiliary("anatomy", "cxrsynth-anatomy-1", "cxrsynth train-anatomy DATA -o FILE"),
    "adapter": Auxiliary("pathology", "cxrsynth-pathology-1", "cxrsynth train-pathology DATA -w SEGMENTER -o FILE"),
}


def auxiliary_file(name: str, key: str = "weights") -> Path:
    """The file of a small network that a recipe names beside the model: a path, or the bundled one of a model.

    Args:
        name: ``mini`` for ``models/mini.affinity.safetensors`` of the package, or a path.
        key: under which key of the recipe it stands: ``weights`` of an AffinityNet, ``head`` of a mask head,
            ``network`` of the anatomy controller, ``adapter`` of the pathology controller.

    Raises:
        MissingError: there is no such file.
    """
    kind, _, make = AUXILIARY[key]
    bundled_file = MODELS / f"{name}.{kind}.safetensors"
    path = bundled_file if bundled_file.is_file() else Path(name).expanduser()
    if not path.is_file():
        known = ", ".join(sorted(file.name.split(".")[0] for file in MODELS.glob(f"*.{kind}.safetensors"))) or "none"
        raise MissingError(f"there are no {kind} weights at {name}", f"make them with '{make}'; bundled: {known}")
    if path == bundled_file:
        pins = MODELS / f"{name}.sha256.json"
        pinned = json.loads(pins.read_text()).get("auxiliary", {}) if pins.exists() else {}
        if path.name in pinned and hash_of(path) != pinned[path.name]:
            raise MissingError(f"{path.name} is not the file that was pinned", "install cxrsynth again")
    return path


def about(path: Path, key: str) -> dict[str, Any]:
    """What the file of a small network says of itself: its format, how it is built, and how it was trained.

    Raises:
        MissingError: it is no such file.
    """
    return _about(str(path), path.stat().st_mtime_ns, key)


@lru_cache(maxsize=8)
def _about(path: str, changed: int, key: str) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    kind, form, make = AUXILIARY[key]
    try:
        with safe_open(path, "np") as file:
            found = documents.parse_json((file.metadata() or {}).get("cxrsynth", "{}"), path)
    except (SafetensorError, OSError, UsageError) as error:
        raise MissingError(f"{path} cannot be read as {kind} weights: {error}", f"make them with '{make}'") from error
    if not isinstance(found, dict) or found.get("format") != form:
        raise MissingError(f"{path} holds no {kind} weights", f"name a file that '{make.split(' -o')[0]}' wrote")
    return found


def read_name(path: Path) -> str:
    """Under which name the answers of a mask head are kept: those of another one are never taken for its own."""
    return f"decoder_{hash_of(path)[:12]}"
