"""Label maps to impose: bundled with the package, of a dataset, or a folder of PNG files.

In memory every map is (H, W) uint8 with the ids of `CLASSES`. What an atlas holds is part of a dataset's fingerprint: a
folder that gains, loses or changes a map is another atlas.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cxrsynth.data import masks
from cxrsynth.domain.anatomy import CLASSES, cardiothoracic
from cxrsynth.encoding import dumps, sha256
from cxrsynth.errors import MissingError, UsageError
from cxrsynth.records import Row
from cxrsynth.store import Store
from cxrsynth.weights import MODELS

SUFFIX = ".anatomies.npz"


@dataclass(frozen=True, slots=True)
class Atlas:
    """Label maps that can be imposed.

    Attributes:
        name: as it was asked for.
        keys: one per map, sorted.
        digest: sha256 over the keys and the content of the maps.
        licence: of the maps, where it is known.
        maps: key -> the map as a PNG file.
    """

    name: str
    keys: tuple[str, ...]
    digest: str
    licence: str
    maps: dict[str, bytes] = field(repr=False)
    _ratios: dict[str, float] = field(default_factory=dict, repr=False, compare=False)

    def load(self, key: str) -> np.ndarray:
        """(H, W) uint8 ids of `CLASSES`.

        Raises:
            UsageError: no such map.
        """
        if key not in self.maps:
            raise UsageError(
                f"{self.name} has no label map '{key}'", f"it has {len(self.keys)}, for example {self.keys[0]}"
            )
        return np.asarray(Image.open(io.BytesIO(self.maps[key])))

    def near(self, ratio: float, factor: float) -> list[str]:
        """Keys of the maps whose cardiothoracic ratio is ``ratio`` up to a factor; of the nearest map if there is none.

        A small heart cannot be made of a huge one without a strange chest around it.
        """
        if not self._ratios:
            self._ratios.update((key, cardiothoracic(self.load(key))) for key in self.keys)
        away = {key: abs(np.log(own / ratio)) for key, own in self._ratios.items()}
        found = [key for key in self.keys if away[key] <= np.log(factor)]
        return found or [min(self.keys, key=away.__getitem__)]


def bundled() -> list[str]:
    """Names of the atlases that come with the package."""
    return sorted(path.name.removesuffix(SUFFIX) for path in MODELS.glob(f"*{SUFFIX}"))


def open_atlas(name: str, splits: tuple[str, ...] = ("train",)) -> Atlas:
    """All label maps behind a name, read and checked.

    Args:
        name: bundled name, dataset folder, folder of PNG files, or an ``.npz`` as `pack` writes it.
        splits: of a dataset, only these; all when empty.

    Raises:
        MissingError: there is nothing of that name.
        UsageError: no map, unknown ids, or a map that lacks a class.
    """
    file = MODELS / f"{name}{SUFFIX}"
    path = file if file.is_file() else Path(name).expanduser()
    if not path.exists():
        raise MissingError(
            f"there are no label maps at {name}",
            f"name a dataset with masks, a folder of PNG label maps, or a bundled set: {', '.join(bundled())}",
        )
    return _read(name, str(path.resolve()), splits, _state(path))


def pack(maps: dict[str, np.ndarray], licence: str) -> bytes:
    """Label maps as the bytes of one file that `open_atlas` reads: key -> (H, W) uint8 ids of `CLASSES`."""
    keys = sorted(maps)
    parts = [_png(check(maps[key], key)) for key in keys]
    ends = np.cumsum([len(part) for part in parts])
    about = json.dumps({"keys": keys, "classes": CLASSES, "licence": licence}, sort_keys=True)
    buffer = io.BytesIO()
    data = np.frombuffer(b"".join(parts), np.uint8)
    np.savez(buffer, about=np.array(about), data=data, ends=ends)
    return buffer.getvalue()


def check(mask: np.ndarray, what: str) -> np.ndarray:
    """(H, W) ids of `CLASSES`, as they are.

    Raises:
        UsageError: it is no gray image, has unknown ids, or lacks a class.
    """
    if mask.ndim != 2:
        raise UsageError(f"{what} is no label map: it has colours", f"save class ids as 8-bit gray: {legend()}")
    strange = sorted({int(value) for value in np.unique(mask)} - {0, *CLASSES.values()})
    if strange:
        shown = ", ".join(map(str, strange[:8]))
        raise UsageError(f"{what} has unknown ids: {shown}", f"known: {legend()}")
    if not mask.any():
        raise UsageError(f"{what} is empty", f"a label map needs every class: {legend()}")
    for name, number in CLASSES.items():
        if not (mask == number).any():
            raise UsageError(
                f"{what} has no {name.replace('_', ' ')} (id {number})", f"it needs every class: {legend()}"
            )
    return mask.astype(np.uint8)


def read_mask(path: Path) -> np.ndarray:
    """(H, W) uint8 ids of one PNG label map, checked.

    Raises:
        UsageError: as `check`, or no image.
    """
    try:
        pixels, _ = masks.read_mask(path)
    except masks.MaskError as error:
        raise UsageError(f"{path}: {error}", f"a label map is an 8-bit gray PNG: {legend()}") from error
    return check(pixels, str(path))


def legend() -> str:
    """``0 background, 1 right lung, ...``."""
    return "0 background, " + ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in CLASSES.items())


def _png(mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask, mode="L").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _state(path: Path) -> tuple[Any, ...]:
    """Changes whenever a map may have changed, so that an atlas is read once as long as it stays."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file())


@lru_cache(maxsize=4)
def _read(name: str, where: str, splits: tuple[str, ...], state: tuple[Any, ...]) -> Atlas:
    path = Path(where)
    if path.is_file():
        maps, licence = _packed(path)
    elif (path / "classes.json").is_file():
        maps, licence = _dataset(path, splits)
    else:
        maps, licence = {}, ""
        for file in sorted(path.rglob("*.png")):
            maps[file.relative_to(path).with_suffix("").as_posix()] = _png(read_mask(file))
    if not maps:
        raise UsageError(f"{name} holds no label map", "name a dataset with masks, or a folder of PNG label maps")
    keys = tuple(sorted(maps))
    return Atlas(name, keys, sha256(dumps([[key, sha256(maps[key])] for key in keys])), licence, maps)


def _packed(path: Path) -> tuple[dict[str, bytes], str]:
    try:
        with np.load(path) as archive:
            about, data, ends = json.loads(str(archive["about"])), archive["data"].tobytes(), archive["ends"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path} is no set of label maps", "name a dataset, a folder, or a bundled set") from error
    starts = [0, *ends[:-1].tolist()]
    parts = {key: data[a:b] for key, a, b in zip(about["keys"], starts, ends.tolist(), strict=True)}
    return parts, about["licence"]


def _dataset(path: Path, splits: tuple[str, ...]) -> tuple[dict[str, bytes], str]:
    """The maps of a dataset that have every class and may be built on: no test image, no masks for benchmarks only."""
    store = Store(path)
    ids = store.classes()
    missing = [name for name in CLASSES if name not in ids]
    if missing:
        raise UsageError(f"{path} has no class '{missing[0]}'", f"it has: {', '.join(ids)}")
    maps: dict[str, bytes] = {}
    licences: set[str] = set()
    for row in store.rows():
        if not _usable(row, splits):
            continue
        stored = store.load_mask(row)
        if stored is None:
            continue
        mask = np.zeros_like(stored)
        for name, number in CLASSES.items():
            mask[stored == ids[name]] = number
        if all((mask == number).any() for number in CLASSES.values()):
            maps[row["key"]] = _png(mask)
            licences.add(str(row.get("licence", "")))
    return maps, "; ".join(sorted(filter(None, licences)))


def _usable(row: Row, splits: tuple[str, ...]) -> bool:
    whole = set(CLASSES) <= set(row.get("mask_classes") or CLASSES)
    open_ = row.get("use", "open") != "test" and row.get("mask_use", "train") != "benchmark"
    return whole and open_ and (not splits or row.get("split") in splits)
