"""A dataset of a few 64x64 chests, written through the store: what sheet, report and card tests look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cxrsynth.encoding import dumps
from cxrsynth.records import Entry
from cxrsynth.store import Store

CLASSES = {"right_lung": 1, "left_lung": 2, "heart": 3}
HOSTILE = 'chest <script>window.hacked=1</script> & "quoted" \'</script>'
FINGERPRINT = "ab12" * 16


def chest(number: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """(size, size) uint8 picture and (size, size) uint8 class ids; the right lung is on the picture's left."""
    row, column = np.mgrid[0:size, 0:size] / size
    mask = np.zeros((size, size), dtype=np.uint8)
    heart = 0.012 + 0.002 * (number % 4)
    mask[((row - 0.5) / 1.5) ** 2 + (column - 0.28) ** 2 < 0.028] = 1
    mask[((row - 0.5) / 1.5) ** 2 + (column - 0.72) ** 2 < 0.026] = 2
    mask[(row - 0.62) ** 2 + (column - 0.56) ** 2 < heart] = 3
    noise = np.random.default_rng(number).normal(0, 6, (size, size))
    image = np.choose(mask, [150, 60, 64, 205]) + noise + 40 * (row - 0.5)
    return image.clip(0, 255).astype(np.uint8), mask


def recipe(**changes: Any) -> dict[str, Any]:
    """A resolved recipe as ``recipe.yaml`` holds it."""
    return {
        "name": "small",
        "seed": 7,
        "count": 7,
        "shard": 3,
        "generator": "phantom",
        "model": "mini",
        "prompts": {"templates": {"{view} chest x-ray": 1.0}, "vocabulary": {"view": {"PA": 1.0, "AP": 1.0}}},
        "card": {"title": "", "description": "Chests for tests.", "licence": "CC-BY-4.0", "citation": ""},
        "classes": [{"id": i, "name": n, "phrase": n.replace("_", " ")} for n, i in CLASSES.items()],
        **changes,
    }


def row(number: int, **changes: Any) -> dict[str, Any]:
    """One meta line; the seed needs 63 bits, which JavaScript's numbers do not have."""
    view = ("PA", "AP")[number % 2]
    return {
        "key": f"{number:09d}",
        "prompt": f"{view} chest x-ray, number {number}",
        "negative_prompt": "blurry",
        "phrases": {name: name.replace("_", " ") for name in CLASSES},
        "present": dict.fromkeys(CLASSES, True),
        "seed": 9007199254740993 + number,
        "attempt": 0,
        "split": ("train", "train", "val", "test")[number % 4],
        "fields": {"view": view},
        "scores": {"area.heart": 0.04 + 0.01 * (number % 4), "stability.heart": 0.9},
        **changes,
    }


def make(root: Path, count: int = 6, size: int = 64, **changes: Any) -> Path:
    """A dataset of two shards with ``count`` kept pictures, one rejected attempt and one slot never filled.

    The last picture's prompt is hostile to HTML. ``changes`` go into the recipe.
    """
    store = Store(root)
    listed = [{"id": i, "name": n, "phrase": n.replace("_", " ")} for n, i in CLASSES.items()]
    store.write("classes.json", dumps({"classes": listed}))
    store.write("recipe.yaml", yaml.safe_dump(recipe(**changes), sort_keys=False).encode())
    entries = []
    for number in range(count):
        image, mask = chest(number, size)
        entries.append(Entry(row(number, **({"prompt": HOSTILE} if number == count - 1 else {})), image, mask))
    bad = row(count, reason="area.heart.small", attempt=0)
    half = count // 2
    planned = [entry.row["key"] for entry in entries]
    versions = {"cxrsynth": "0.1.0"}
    store.write_shard(0, entries[:half], fingerprint=FINGERPRINT, planned=planned[:half], versions=versions)
    store.write_shard(
        1,
        entries[half:],
        fingerprint=FINGERPRINT,
        planned=[*planned[half:], bad["key"]],
        rejected=[(bad, chest(count, size)[0])],
    )
    return root


def make_real(root: Path) -> Path:
    """A dataset of ingested images, one of them without a mask."""
    store = Store(root)
    listed = [{"id": i, "name": n, "phrase": n.replace("_", " ")} for n, i in CLASSES.items()]
    store.write("classes.json", dumps({"classes": listed}))
    entries = []
    for number in range(3):
        image, mask = chest(number)
        line = {"key": f"image-{number}", "prompt": "chest x-ray", "split": "train", "source": "hospital images"}
        entries.append(Entry({**line, "licence": "CC-BY-4.0", "patient": f"p{number}", "view": "PA"}, image, mask))
    entries[2].mask = None
    store.write_shard(0, entries, fingerprint=FINGERPRINT, planned=[entry.row["key"] for entry in entries])
    return root
