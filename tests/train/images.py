"""A small dataset of phantom-like images: bright body, dark lungs, human-made masks."""

from pathlib import Path

import numpy as np

from cxrsynth.encoding import dumps
from cxrsynth.records import Entry
from cxrsynth.store import Store

NAMES = {"right_lung": "right lung", "left_lung": "left lung", "heart": "heart"}


def make(root: Path, images: int = 8, size: int = 64) -> Path:
    """Images of source ``a`` (masks) and ``b`` (none); the last two are for validation."""
    store = Store(root)
    store.write(
        "classes.json",
        dumps({"classes": [{"id": i, "name": n, "phrase": p} for i, (n, p) in enumerate(NAMES.items(), 1)]}),
    )
    rng = np.random.default_rng(0)
    entries = []
    for number in range(images):
        image = np.full((size, size), 200, np.uint8)
        mask = np.zeros((size, size), np.uint8)
        top = size // 5 + int(rng.integers(4))
        mask[top : size - 12, 8 : size // 2 - 4] = 1
        mask[top : size - 12, size // 2 + 4 : size - 8] = 2
        image[mask > 0] = 60
        mask[size // 2 : size - 12, size // 2 - 6 : size // 2 + 10] = 3
        image[mask == 3] = 220
        image += rng.integers(20, size=image.shape, dtype=np.uint8)
        labelled = number % 2 == 0
        row = {
            "key": f"{number:03d}",
            "prompt": "Frontal chest X-ray, PA view, of a 40-year-old man. Findings: cardiomegaly.",
            "split": "val" if number >= images - 2 else "train",
            "patient": f"p{number}",
            "source": "a" if labelled else "b",
            "use": "open",
            "view": "PA",
            "sex": "M",
            "age": 40.0,
            "population": "adult",
            "findings": "cardiomegaly",
            "mask_use": "train" if labelled else "",
            "mask_classes": list(NAMES) if labelled else [],
        }
        entries.append(Entry(row, image, mask if labelled else None))
    store.write_shard(0, entries, fingerprint="images", planned=[entry.row["key"] for entry in entries])
    return root
