"""Small labelled datasets for segmentation: two dark lungs and a bright heart that a network learns in seconds."""

from pathlib import Path
from typing import Any

import numpy as np

from cxrsynth.encoding import dumps
from cxrsynth.records import Entry
from cxrsynth.store import Store

CLASSES = {"right_lung": 1, "left_lung": 2, "heart": 3}


def chest(number: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """(size, size) uint8 image and its ids 1 right lung, 2 left lung, 3 heart."""
    rng = np.random.default_rng(number)
    mask = np.zeros((size, size), np.uint8)
    top = size // 6 + int(rng.integers(6))
    mask[top : size - size // 6, size // 8 : size // 2 - 4] = 1
    mask[top : size - size // 6, size // 2 + 4 : size - size // 8] = 2
    mask[size // 2 : size - size // 6, size // 2 - 6 : size // 2 + 10] = 3
    image = np.choose(mask, [170, 50, 60, 230]) + rng.normal(0, 8, mask.shape)
    return image.clip(0, 255).astype(np.uint8), mask


def make(
    root: Path,
    classes: dict[str, int] = CLASSES,
    splits: str = "tttttvvs",
    size: int = 64,
    per_shard: int = 4,
    source: str = "clinic",
    rows: dict[int, dict[str, Any]] | None = None,
) -> Path:
    """A dataset of chests.

    Args:
        classes: name -> id in the mask files; names among right_lung, left_lung, heart.
        splits: one letter per image: t train, v val, s test.
        rows: image -> fields of its row to change.
    """
    store = Store(root)
    listed = [{"id": i, "name": name, "phrase": name} for name, i in classes.items()]
    store.write("classes.json", dumps({"classes": listed}))
    entries = []
    for number, letter in enumerate(splits):
        image, drawn = chest(number, size)
        mask = np.zeros_like(drawn)
        for name, i in classes.items():
            mask[drawn == CLASSES[name]] = i
        row = {
            "key": f"{number:03d}",
            "prompt": "Frontal chest X-ray.",
            "split": {"t": "train", "v": "val", "s": "test"}[letter],
            "patient": f"p{number}",
            "source": source,
            "use": "open",
            "mask_use": "train",
            "mask_classes": list(classes),
            **(rows or {}).get(number, {}),
        }
        entries.append(Entry(row, image, mask))
    for shard, start in enumerate(range(0, len(entries), per_shard)):
        part = entries[start : start + per_shard]
        store.write_shard(shard, part, fingerprint="chests", planned=[entry.row["key"] for entry in part])
    return root
