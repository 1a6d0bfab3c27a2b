"""How far synthetic images are from real ones, and how varied they are; real against real beside it as the floor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim

from cxrsynth.data.dataset import read_images, rows, trainable
from cxrsynth.data.sharpness import relative
from cxrsynth.domain.lexicon import trait
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.distances import fid, interval, kid, manifold
from cxrsynth.evaluate.features import FeatureNet
from cxrsynth.evaluate.results import Record, record
from cxrsynth.nets.segmenter import Segmenter
from cxrsynth.records import Row
from cxrsynth.statistics import bootstrap

PAIRS = 60
FEWEST = 12  # images on each side that a distance needs


@dataclass(slots=True)
class Group:
    """Images that are compared as one set; features are made once per net, masks once.

    Attributes:
        name: in tables.
        rows: N meta lines.
        images: (N, H, W) uint8.
    """

    name: str
    rows: list[Row]
    images: np.ndarray
    _features: dict[str, np.ndarray] = field(default_factory=dict)
    _masks: list[np.ndarray] | None = None

    def masks(self, segmenter: Segmenter) -> list[np.ndarray]:
        """(H, W) uint8 each, 1 ... K as the segmenter numbers its classes; made once."""
        if self._masks is None:
            self._masks = segmenter(list(self.images))
        return self._masks

    def features(self, net: FeatureNet) -> np.ndarray:
        """(N, D) float32."""
        if net.name not in self._features:
            self._features[net.name] = net.see(self.images)
        return self._features[net.name]

    def some(self, count: int, seed: int = 0) -> Group:
        """At most ``count`` of the images, chosen at random."""
        if count >= len(self.rows):
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self.rows))[:count])
        few = {name: values[chosen] for name, values in self._features.items()}
        return Group(self.name, [self.rows[i] for i in chosen], self.images[chosen], few)


def group(data: Path, split: str = "", keep: Callable[[Row], bool] | None = None, name: str = "") -> Group:
    """The images of a split, all without one; never those of an external test set.

    Raises:
        UsageError: no dataset, no image, or images of different sizes.
    """
    chosen = rows(data, (split,) if split else (), lambda row: trainable(row) and (keep is None or keep(row)))
    try:
        images = read_images(data, chosen)
    except ValueError:
        raise UsageError(
            f"the images of {data} differ in size", "ingest or generate them at one size, for example --size 256"
        ) from None
    return Group(name or (f"{data.name}:{split}" if split else data.name), chosen, images)


def same_people(generated: Sequence[Row]) -> Callable[[Row], bool]:
    """Which real images may be compared with synthetic ones: adults only where no child was asked for."""
    with_children = any(trait(row, "child") == 1 for row in generated)
    return lambda row: with_children or trait(row, "child") != 1


def fidelity(generated: Group, held_out: Group, train: Group, nets: Sequence[FeatureNet]) -> list[Record]:
    """FID, KID, precision, recall, density and coverage against held-out real images, in every net.

    Arm ``real`` is the floor: as many training images as were generated, against the same held-out images.

    Raises:
        UsageError: too few images on a side.
    """
    for part in (generated, held_out, train):
        if len(part.rows) < FEWEST:
            raise UsageError(
                f"{part.name} has {len(part.rows)} images that can be compared, at least {FEWEST} are needed",
                "draw more images, or choose another --split",
            )
    records = []
    for net in nets:
        for label, part in ((generated.name, generated), ("real", train.some(len(generated.rows)))):
            real, made = held_out.features(net), part.features(net)
            where = ("images", label, held_out.name)
            klass = f"{net.name}_features"
            records.append(record(*where, "fid", interval(fid, real, made, folds=10), len(made), klass))
            records.append(record(*where, "kid", interval(kid, real, made), len(made), klass))
            for metric, values in manifold(real, made).items():
                records.append(record(*where, metric, bootstrap(values), len(values), klass))
    return records


def variety(generated: Group, held_out: Group) -> list[Record]:
    """MS-SSIM of pairs: generated from one prompt, any two generated, any two real. Higher means more alike."""
    where = ("images", generated.name, held_out.name, "ms_ssim")
    records = []
    for label, part in ((generated.name, generated), ("real", held_out)):
        alike = likeness(part.images, random_pairs(len(part.rows)))
        records.append(record("images", label, held_out.name, "ms_ssim", bootstrap(alike), len(alike), "any_two"))
    pairs = prompt_pairs([str(row.get("prompt", "")) for row in generated.rows])
    if len(pairs):
        alike = likeness(generated.images, pairs)
        prompts = [str(generated.rows[i].get("prompt", "")) for i in pairs[:, 0]]
        records.append(record(*where, bootstrap(alike, prompts), len(alike), "same_prompt"))
    return records


def sharpness(generated: Group, held_out: Group, train: Group) -> list[Record]:
    """Gradient energy and power bands as a share of those of held-out real images; arm ``real`` is the floor."""
    records = []
    for label, part in ((generated.name, generated), ("real", train.some(len(generated.rows)))):
        for metric, values in relative(part.images, held_out.images).items():
            where = ("images", label, held_out.name, metric)
            records.append(record(*where, bootstrap(values), len(values), "sharpness"))
    return records


def random_pairs(count: int, pairs: int = PAIRS, seed: int = 0) -> np.ndarray:
    """(P, 2) indices of two different images each."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice(count, size=2, replace=False) for _ in range(pairs)])


def prompt_pairs(prompts: Sequence[str], most: int = 3 * PAIRS, seed: int = 0) -> np.ndarray:
    """(P, 2) indices of images of the same prompt, each image at most once with its follower; P may be 0."""
    places: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        places.setdefault(prompt, []).append(i)
    found = [pair for same in places.values() for pair in pairwise(same)]
    pairs = np.array(found, int).reshape(-1, 2)
    return pairs[np.sort(np.random.default_rng(seed).permutation(len(pairs))[:most])]


def likeness(images: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(P,) MS-SSIM of the pairs (P, 2) of (N, H, W) uint8 images."""
    a, b = (torch.from_numpy(images[pairs[:, i]].astype(np.float32))[:, None] / 255 for i in (0, 1))
    # Three scales: five would need images of more than 160 pixels after four halvings of an 11-pixel window.
    weights = (0.3, 0.35, 0.35)
    return np.array(
        [float(ms_ssim(x[None], y[None], data_range=1.0, betas=weights)) for x, y in zip(a, b, strict=True)]
    )
