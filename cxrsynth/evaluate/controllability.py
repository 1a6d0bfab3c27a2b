"""Controllability: imposed anatomy, imposed findings, variety in spite of both, and what it costs.

Evaluators were trained on real images alone and see the image only. Every figure of anatomy stands beside the same
one for images of the same prompts and noises that nothing was imposed on.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cxrsynth.domain.anatomy import CLASSES, cardiothoracic
from cxrsynth.domain.overlap import dice
from cxrsynth.domain.regions import edge
from cxrsynth.encoding import npz
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.images import likeness, random_pairs
from cxrsynth.evaluate.results import Record, record
from cxrsynth.factory.prompts import spec
from cxrsynth.files import write_atomic
from cxrsynth.nets.classifier import Classifier
from cxrsynth.nets.segmenter import Segmenter
from cxrsynth.recipe import Recipe
from cxrsynth.records import Draw, Row, Spec
from cxrsynth.statistics import auroc, bootstrap
from cxrsynth.store import Store

BENCHMARK = "control"
FINDINGS = "findings"  # the dataset of their figures; each folder is an arm
CONTROL, FREE, REAL = "control", "no control", "real"
LUNGS = "lungs"
MANY = 16  # images of one mask, and of one noise
# A change that no 8-bit image can hold counts as this many dB.
MOST_PSNR = 60.0
OnImage = Callable[[int, int], None]


class Controlled(Protocol):
    """A generator that imposes anatomies; `latent` holds the network whose passes are counted."""

    latent: Any

    def draw(self, specs: list[Spec]) -> list[Draw]:
        """Images with their label maps."""
        ...


@dataclass(frozen=True, slots=True)
class Imposed:
    """Images with the masks that were imposed on them.

    Attributes:
        keys: of N images.
        images: (N, H, W) uint8.
        masks: (N, H, W) uint8 ids of `cxrsynth.domain.anatomy.CLASSES`.
        findings: class -> (N, H, W) bool, of the other classes.
        rows: their meta lines.
    """

    keys: list[str]
    images: np.ndarray
    masks: np.ndarray
    findings: dict[str, np.ndarray]
    rows: list[Row]


def read(data: Path) -> Imposed:
    """The images of a dataset with what was imposed.

    Raises:
        UsageError: nothing was imposed.
    """
    store = Store(data)
    names = list(store.classes())
    keys, images, masks, rows = [], [], [], []
    findings: dict[str, list[np.ndarray]] = {name: [] for name in names if name not in CLASSES}
    for row in store.rows():
        imposed = (store.load_maps(row) or {}).get("control")
        if imposed is None:
            raise UsageError(f"nothing was imposed on the images of {data}", "draw them by a recipe with control:")
        mask = np.zeros(imposed.shape[1:], np.uint8)
        for name, number in CLASSES.items():
            if name in names:
                mask[imposed[names.index(name)]] = number
        for name, planes in findings.items():
            planes.append(imposed[names.index(name)])
        keys.append(row["key"])
        images.append(store.load_image(row))
        masks.append(mask)
        rows.append(row)
    if not keys:
        raise UsageError(f"{data} has no finished image", "run the generate command again to complete it")
    layers = {name: np.stack(planes) for name, planes in findings.items()}
    return Imposed(keys, np.stack(images), np.stack(masks), layers, rows)


def images_of(data: Path, keys: Sequence[str]) -> np.ndarray:
    """(N, H, W) uint8: the images of these keys.

    Raises:
        UsageError: one is missing.
    """
    store = Store(data)
    found = {row["key"]: row for row in store.rows()}
    missing = [key for key in keys if key not in found]
    if missing:
        raise UsageError(f"{data} has no image {missing[0]}", "draw both with the same recipe, seed and count")
    return np.stack([store.load_image(found[key]) for key in keys])


def anatomy(made: Path, free: Path | None, segmenter: Segmenter) -> list[Record]:
    """Dice of a real-trained segmenter on the image against the imposed mask, and the cardiothoracic ratio of both.

    Args:
        made: images that anatomies were imposed on.
        free: images of the same recipe and seeds without control: how far chests agree by chance.

    Raises:
        UsageError: the segmenter lacks a class.
    """
    missing = [name for name in CLASSES if name not in segmenter.classes]
    if missing:
        raise UsageError(f"the segmenter does not know {missing[0]}", f"train one on {', '.join(CLASSES)}")
    generated = read(made)
    records: list[Record] = []
    arms = {CONTROL: generated.images} | ({FREE: images_of(free, generated.keys)} if free else {})
    wanted = np.array([cardiothoracic(mask) for mask in generated.masks])
    for arm, images in arms.items():
        seen = np.zeros_like(generated.masks)
        for mask, found in zip(seen, segmenter(list(images)), strict=True):
            for name, number in CLASSES.items():
                mask[found == segmenter.classes.index(name) + 1] = number
        for klass, ids in {**{name: (number,) for name, number in CLASSES.items()}, LUNGS: (1, 2)}.items():
            values = dice(np.isin(generated.masks, ids), np.isin(seen, ids))
            records.append(record(BENCHMARK, arm, made.name, "dice", bootstrap(values), len(values), klass))
        ratios = np.stack([wanted, [cardiothoracic(mask) for mask in seen]], axis=1)
        known = ratios[~np.isnan(ratios).any(axis=1)]
        if len(known) > 2:
            figures = bootstrap(known, statistic=correlation)
            records.append(record(BENCHMARK, arm, made.name, "correlation", figures, len(known), "ctr"))
            away = bootstrap(np.abs(known[:, 0] - known[:, 1]))
            records.append(record(BENCHMARK, arm, made.name, "error", away, len(known), "ctr"))
    return records


def pathology(after: Path, before: Path, classifier: Classifier | None, feather: float) -> list[Record]:
    """What a finding changes inside its region and outside (gray levels of 255), and whether a classifier sees it.

    Args:
        after: images with findings.
        before: the same images without.
        classifier: scores before and after; without one only changes are measured.
        feather: width of the border that belongs to neither side, of the width.
    """
    generated = read(after)
    old = images_of(before, generated.keys).astype(np.float64)
    change = np.abs(generated.images - old)
    inside = np.any(list(generated.findings.values()), axis=0)
    outside = np.stack([edge(region, feather * region.shape[1]) == 0 for region in inside])
    has = inside.any(axis=(1, 2))
    if not has.any():
        raise UsageError(f"no image of {after} has a finding", "draw more, or raise control.pathology.probability")
    records = []

    def add(metric: str, values: np.ndarray, klass: str) -> None:
        records.append(record(BENCHMARK, after.name, FINDINGS, metric, bootstrap(values), len(values), klass))

    within = np.array([one[region].mean() for one, region in zip(change[has], inside[has], strict=True)])
    beyond = np.array([one[region].mean() for one, region in zip(change[has], outside[has], strict=True)])
    squares = np.array([(one[region] ** 2).mean() for one, region in zip(change[has], outside[has], strict=True)])
    noise = 10 * np.log10(255**2 / np.maximum(squares, 255**2 / 10 ** (MOST_PSNR / 10)))
    signed = generated.images - old
    rise = np.array([one[region].mean() for one, region in zip(signed[has], inside[has], strict=True)])
    for metric, values in (
        ("rise_inside", rise),
        ("change_inside", within),
        ("change_outside", beyond),
        ("psnr_outside", noise),
    ):
        add(metric, values, "region")
    if classifier is not None:
        asked = {row["key"]: {one["finding"] for one in row["control"]["findings"]} for row in generated.rows}
        for label in sorted(set.union(*asked.values()) & set(classifier.labels)):
            which = [i for i, key in enumerate(generated.keys) if label in asked[key]]
            column = classifier.index(label)
            scores = [
                classifier(list(images[which].astype(np.uint8)))[:, column].astype(float)
                for images in (old, generated.images)
            ]
            add("probability_before", scores[0], label)
            add("probability_after", scores[1], label)
            add("share_raised", (scores[1] > scores[0]).astype(float), label)
            pairs = np.stack([np.concatenate(scores[::-1]), np.repeat([1.0, 0.0], len(which))], axis=1)
            images_twice = [str(i) for i in which] * 2
            figures = bootstrap(pairs, images_twice, auroc)
            records.append(record(BENCHMARK, after.name, FINDINGS, "auroc", figures, len(which), label))
    return records


def variety(controlled: Controlled, recipe: Recipe, kept: Path, on_image: OnImage | None = None) -> list[Record]:
    """MS-SSIM of images of one mask and many noises, and of one noise and many masks; calls and seconds per image.

    Args:
        kept: ``.npz`` to keep the images in, so that they are not generated again.
    """
    if not kept.exists():
        write_atomic(kept, npz(_draw_many(controlled, recipe, on_image)))
    with np.load(kept) as stored:
        images = {name: stored[name] for name in stored.files}
    records = []
    for klass in ("same_mask", "same_noise", "both_free"):
        alike = likeness(images[klass], random_pairs(len(images[klass])))
        records.append(record(BENCHMARK, CONTROL, recipe.name, "ms_ssim", bootstrap(alike), len(alike), klass))
    count = 3 * MANY
    for metric in ("unet_calls", "unet_evaluations", "seconds"):
        each = float(images[metric])
        records.append(record(BENCHMARK, CONTROL, recipe.name, metric, (each, each, each), count, "anatomy"))
    return records


def _draw_many(controlled: Controlled, recipe: Recipe, on_image: OnImage | None) -> dict[str, np.ndarray]:
    specs = [spec(recipe, index) for index in range(MANY)]
    one = specs[0]
    sets = {
        "same_mask": [replace(each, control=one.control, prompt=one.prompt) for each in specs],
        "same_noise": [replace(each, seed=one.seed, prompt=one.prompt) for each in specs],
        "both_free": specs,
    }
    calls = evaluations = 0

    def count(module: Any, args: tuple[Any, ...], output: Any) -> None:
        nonlocal calls, evaluations
        calls, evaluations = calls + 1, evaluations + len(args[0])

    started, done, found = time.monotonic(), 0, {}
    handle = controlled.latent.model.denoiser.register_forward_hook(count)
    try:
        for name, wanted in sets.items():
            images: list[np.ndarray] = []
            for start in range(0, MANY, recipe.sampler.batch):
                part = wanted[start : start + recipe.sampler.batch]
                images += [draw.image for draw in controlled.draw(part)]
                done += len(part)
                if on_image is not None:
                    on_image(done, 3 * MANY)
            found[name] = np.stack(images)
    finally:
        handle.remove()
    batches = 3 * -(-MANY // recipe.sampler.batch)
    found["unet_calls"] = np.array(calls / batches)  # passes that a batch waits for, both halves of guidance in one
    found["unet_evaluations"] = np.array(evaluations / (3 * MANY))
    found["seconds"] = np.array((time.monotonic() - started) / (3 * MANY))
    return found


def correlation(pairs: np.ndarray) -> float:
    """(N, 2) -> Pearson's correlation; NaN where one side does not vary."""
    spread = pairs.std(axis=0)
    return float(np.corrcoef(pairs.T)[0, 1]) if (spread > 0).all() else float("nan")


def downstream_utility(compared: Path) -> list[Record]:
    """The downstream utility of one kind of images: the synthetic arm of a comparison, under its folder's name.

    Raises:
        UsageError: there is no finished comparison.
    """
    file = compared / "compare.json"
    if not file.is_file():
        raise UsageError(
            f"there is no comparison in {compared}", "run `cxrsynth compare` first, with this folder as -o"
        )
    records: list[Record] = json.loads(file.read_text())
    generated = {one["arm"] for one in records if re.fullmatch(r"S-(all|\d+)", one["arm"])}
    return [one for one in renamed(records, dict.fromkeys(generated, compared.name)) if one["metric"] == "dice"]


def renamed(records: Sequence[Record], arms: Mapping[str, str]) -> list[Record]:
    """Figures of another benchmark as figures of this one, under other arms; arms that are not named are left out."""
    return [{**one, "benchmark": BENCHMARK, "arm": arms[one["arm"]]} for one in records if one["arm"] in arms]
