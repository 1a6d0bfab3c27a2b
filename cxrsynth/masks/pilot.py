"""A pilot dataset as an AffinityNet learns from it: images, and the pixels that attention is sure of."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cxrsynth.data.classes import read_classes
from cxrsynth.data.documents import read_yaml
from cxrsynth.data.patients import patient_id
from cxrsynth.errors import UsageError
from cxrsynth.masks.attention import Joint
from cxrsynth.masks.crf import Crf
from cxrsynth.masks.seeds import confident
from cxrsynth.records import Row
from cxrsynth.store import Store


@dataclass(frozen=True, slots=True)
class Pilot:
    """Images of a pilot dataset and what attention is sure of.

    Attributes:
        images: (N, size, size) uint8.
        seeds: (N, size, size) uint8: 0 background, k + 1 class k, 255 disputed.
    """

    images: np.ndarray
    seeds: np.ndarray


def split(rows: list[Row], held_out: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Images to learn from and images to stop by, a share ``held_out`` of the patients.

    Raises:
        UsageError: fewer than two images, or all of one patient.
    """
    patients = sorted({patient_id(row) for row in rows})
    few = max(1, round(held_out * len(patients)))
    chosen = set(np.random.default_rng(seed).permutation(patients)[:few].tolist())
    held = [row for row in rows if patient_id(row) in chosen]
    train = [row for row in rows if patient_id(row) not in chosen]
    if not train:
        raise UsageError(f"{len(rows)} images are too few to learn from and stop by", "generate a pilot of 64 or more")
    return train, held


def competing_classes(store: Store) -> list[str]:
    """Names of the classes that share the label map; a class that overlaps others has no edge of its own."""
    classes = store.classes()
    return [name for name in classes if name not in _overlapping(store)]


def _overlapping(store: Store) -> set[str]:
    return {item["name"] for item in read_classes(store.root / "classes.json", empty=True) if item.get("overlap")}


def normaliser(store: Store) -> Joint:
    """How the pilot's own recipe makes probabilities of maps; the defaults where it has none."""
    path = store.root / "recipe.yaml"
    recipe = read_yaml(path) if path.exists() else {}
    entry = recipe.get("masks", {}).get("normalise", {})
    return Joint(**{key: value for key, value in entry.items() if key != "use"})


def read(
    store: Store, rows: list[Row], classes: list[str], size: int, certainty: float, band: float, pool: Executor
) -> Pilot:
    """Images and seeds of some rows.

    Args:
        size: side of the images.
        certainty: how far DenseCRF believes the rough labels of the seeds.
        band: how far foreground seeds keep from the adapted threshold.

    Raises:
        UsageError: the maps were not kept.
    """
    joint, crf = normaliser(store), Crf(certainty=certainty)
    names = list(store.classes())
    which = [names.index(name) for name in classes]
    images, waiting = [], []
    for row in rows:
        stored = store.load_maps(row)
        if stored is None:
            raise UsageError(f"{store.root} keeps no maps", "generate the pilot with masks.keep_maps: true")
        picture = Image.fromarray(store.load_image(row))
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.LANCZOS)
        images.append(np.asarray(picture))
        maps = stored["maps"][which].astype(np.float32)
        waiting.append(pool.submit(confident, images[-1], maps, joint, crf, band))
    return Pilot(np.stack(images), np.stack([future.result() for future in waiting]))
