"""Do drawn films obey? Imposed anatomy, imposed findings, variety in spite of both, and what it costs.

Judges have learned from real films alone and see the picture only. Every figure of anatomy stands beside the same one
for films of the same prompts and noises that nothing was imposed on.
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
from cxrsynth.domain.regions import edge
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.images import likeness, random_pairs
from cxrsynth.evaluate.results import Record, record
from cxrsynth.factory.prompts import spec
from cxrsynth.nets.classifier import Classifier
from cxrsynth.nets.segmenter import Segmenter
from cxrsynth.recipe import Recipe
from cxrsynth.records import Draw, Spec
from cxrsynth.statistics import auroc, bootstrap
from cxrsynth.store import Row, Store, npz, write_atomic

BENCHMARK = "control"
FINDINGS = "findings"  # the dataset of their figures; each folder is an arm
CONTROL, FREE, REAL = "control", "no control", "real"
LUNGS = "lungs"
MANY = 16  # films of one mask, and of one noise
# A change that no 8-bit film can hold counts as this many dB.
MOST_PSNR = 60.0
OnFilm = Callable[[int, int], None]


class Controlled(Protocol):
    """A generator that imposes anatomies; `latent` holds the network whose passes are counted."""

    latent: Any

    def draw(self, specs: list[Spec]) -> list[Draw]:
        """Images with their label maps."""
        ...


@dataclass(frozen=True, slots=True)
class Drawn:
    """Films with the masks that were imposed on them.

    Attributes:
        keys: of N films.
        films: (N, H, W) uint8.
        masks: (N, H, W) uint8 ids of `cxrsynth.domain.anatomy.CLASSES`.
        findings: class -> (N, H, W) bool, of the other classes.
        rows: their meta lines.
    """

    keys: list[str]
    films: np.ndarray
    masks: np.ndarray
    findings: dict[str, np.ndarray]
    rows: list[Row]


def read(data: Path) -> Drawn:
    """The films of a dataset with what was imposed.

    Raises:
        UsageError: nothing was imposed.
    """
    store = Store(data)
    names = list(store.classes())
    keys, films, masks, rows = [], [], [], []
    findings: dict[str, list[np.ndarray]] = {name: [] for name in names if name not in CLASSES}
    for row in store.rows():
        imposed = (store.load_maps(row) or {}).get("control")
        if imposed is None:
            raise UsageError(f"nothing was imposed on the films of {data}", "draw them by a recipe with control:")
        mask = np.zeros(imposed.shape[1:], np.uint8)
        for name, number in CLASSES.items():
            if name in names:
                mask[imposed[names.index(name)]] = number
        for name, planes in findings.items():
            planes.append(imposed[names.index(name)])
        keys.append(row["key"])
        films.append(store.load_image(row))
        masks.append(mask)
        rows.append(row)
    if not keys:
        raise UsageError(f"{data} has no finished film", "type the generate command again to complete it")
    layers = {name: np.stack(planes) for name, planes in findings.items()}
    return Drawn(keys, np.stack(films), np.stack(masks), layers, rows)


def films_of(data: Path, keys: Sequence[str]) -> np.ndarray:
    """(N, H, W) uint8: the films of these keys.

    Raises:
        UsageError: one is missing.
    """
    store = Store(data)
    found = {row["key"]: row for row in store.rows()}
    missing = [key for key in keys if key not in found]
    if missing:
        raise UsageError(f"{data} has no film {missing[0]}", "draw both with the same recipe, seed and count")
    return np.stack([store.load_image(found[key]) for key in keys])


def anatomy(made: Path, free: Path | None, segmenter: Segmenter) -> list[Record]:
    """Dice of a real-trained segmenter on the film against the imposed mask, and the cardiothoracic ratio of both.

    Args:
        made: films that anatomies were imposed on.
        free: films of the same recipe and seeds without control: how far chests agree by chance.

    Raises:
        UsageError: the segmenter lacks a class.
    """
    missing = [name for name in CLASSES if name not in segmenter.classes]
    if missing:
        raise UsageError(f"the segmenter does not know {missing[0]}", f"train one on {', '.join(CLASSES)}")
    drawn = read(made)
    records: list[Record] = []
    arms = {CONTROL: drawn.films} | ({FREE: films_of(free, drawn.keys)} if free else {})
    wanted = np.array([cardiothoracic(mask) for mask in drawn.masks])
    for arm, films in arms.items():
        seen = np.zeros_like(drawn.masks)
        for mask, found in zip(seen, segmenter(list(films)), strict=True):
            for name, number in CLASSES.items():
                mask[found == segmenter.classes.index(name) + 1] = number
        for klass, ids in {**{name: (number,) for name, number in CLASSES.items()}, LUNGS: (1, 2)}.items():
            values = dice(np.isin(drawn.masks, ids), np.isin(seen, ids))
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
        after: films with findings.
        before: the same films without.
        classifier: judges before and after; without one only changes are measured.
        feather: width of the border that belongs to neither side, of the width.
    """
    drawn = read(after)
    old = films_of(before, drawn.keys).astype(np.float64)
    change = np.abs(drawn.films - old)
    inside = np.any(list(drawn.findings.values()), axis=0)
    outside = np.stack([edge(region, feather * region.shape[1]) == 0 for region in inside])
    has = inside.any(axis=(1, 2))
    if not has.any():
        raise UsageError(f"no film of {after} has a finding", "draw more, or raise control.pathology.probability")
    records = []

    def add(metric: str, values: np.ndarray, klass: str) -> None:
        records.append(record(BENCHMARK, after.name, FINDINGS, metric, bootstrap(values), len(values), klass))

    within = np.array([one[region].mean() for one, region in zip(change[has], inside[has], strict=True)])
    beyond = np.array([one[region].mean() for one, region in zip(change[has], outside[has], strict=True)])
    squares = np.array([(one[region] ** 2).mean() for one, region in zip(change[has], outside[has], strict=True)])
    noise = 10 * np.log10(255**2 / np.maximum(squares, 255**2 / 10 ** (MOST_PSNR / 10)))
    signed = drawn.films - old
    rise = np.array([one[region].mean() for one, region in zip(signed[has], inside[has], strict=True)])
    for metric, values in (
        ("rise_inside", rise),
        ("change_inside", within),
        ("change_outside", beyond),
        ("psnr_outside", noise),
    ):
        add(metric, values, "region")
    if classifier is not None:
        asked = {row["key"]: {one["finding"] for one in row["control"]["findings"]} for row in drawn.rows}
        for label in sorted(set.union(*asked.values()) & set(classifier.labels)):
            which = [i for i, key in enumerate(drawn.keys) if label in asked[key]]
            column = classifier.index(label)
            scores = [
                classifier(list(films[which].astype(np.uint8)))[:, column].astype(float) for films in (old, drawn.films)
            ]
            add("probability_before", scores[0], label)
            add("probability_after", scores[1], label)
            add("share_raised", (scores[1] > scores[0]).astype(float), label)
            pairs = np.stack([np.concatenate(scores[::-1]), np.repeat([1.0, 0.0], len(which))], axis=1)
            films_twice = [str(i) for i in which] * 2
            figures = bootstrap(pairs, films_twice, auroc)
            records.append(record(BENCHMARK, after.name, FINDINGS, "auroc", figures, len(which), label))
    return records


def variety(controlled: Controlled, recipe: Recipe, kept: Path, on_film: OnFilm | None = None) -> list[Record]:
    """MS-SSIM of films of one mask and many noises, and of one noise and many masks; calls and seconds per film.

    Args:
        kept: ``.npz`` to keep the films in, so that they are not drawn again.
    """
    if not kept.exists():
        write_atomic(kept, npz(_draw_many(controlled, recipe, on_film)))
    with np.load(kept) as stored:
        films = {name: stored[name] for name in stored.files}
    records = []
    for klass in ("same_mask", "same_noise", "both_free"):
        alike = likeness(films[klass], random_pairs(len(films[klass])))
        records.append(record(BENCHMARK, CONTROL, recipe.name, "ms_ssim", bootstrap(alike), len(alike), klass))
    count = 3 * MANY
    for metric in ("unet_calls", "unet_evaluations", "seconds"):
        each = float(films[metric])
        records.append(record(BENCHMARK, CONTROL, recipe.name, metric, (each, each, each), count, "anatomy"))
    return records


def _draw_many(controlled: Controlled, recipe: Recipe, on_film: OnFilm | None) -> dict[str, np.ndarray]:
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
    handle = controlled.latent.unet.register_forward_hook(count)
    try:
        for name, wanted in sets.items():
            films: list[np.ndarray] = []
            for start in range(0, MANY, recipe.sampler.batch):
                part = wanted[start : start + recipe.sampler.batch]
                films += [draw.image for draw in controlled.draw(part)]
                done += len(part)
                if on_film is not None:
                    on_film(done, 3 * MANY)
            found[name] = np.stack(films)
    finally:
        handle.remove()
    batches = 3 * -(-MANY // recipe.sampler.batch)
    found["unet_calls"] = np.array(calls / batches)  # passes that a batch waits for, both halves of guidance in one
    found["unet_evaluations"] = np.array(evaluations / (3 * MANY))
    found["seconds"] = np.array((time.monotonic() - started) / (3 * MANY))
    return found


def dice(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, H, W) bool twice -> (N,) Dice; NaN where both are empty."""
    total = first.sum(axis=(1, 2)) + second.sum(axis=(1, 2))
    both = 2 * (first & second).sum(axis=(1, 2))
    return np.where(total > 0, both / np.maximum(total, 1), np.nan)


def correlation(pairs: np.ndarray) -> float:
    """(N, 2) -> Pearson's correlation; NaN where one side does not vary."""
    spread = pairs.std(axis=0)
    return float(np.corrcoef(pairs.T)[0, 1]) if (spread > 0).all() else float("nan")


def worth(compared: Path) -> list[Record]:
    """What films of one kind are worth as training data: the drawn arm of a comparison, under its folder's name.

    Raises:
        UsageError: there is no finished comparison.
    """
    file = compared / "compare.json"
    if not file.is_file():
        raise UsageError(
            f"there is no comparison in {compared}", "run `cxrsynth compare` first, with this folder as -o"
        )
    records: list[Record] = json.loads(file.read_text())
    drawn = {one["arm"] for one in records if re.fullmatch(r"S-(all|\d+)", one["arm"])}
    return [one for one in renamed(records, dict.fromkeys(drawn, compared.name)) if one["metric"] == "dice"]


def renamed(records: Sequence[Record], arms: Mapping[str, str]) -> list[Record]:
    """Figures of another benchmark as figures of this one, under other arms; arms that are not named are left out."""
    return [{**one, "benchmark": BENCHMARK, "arm": arms[one["arm"]]} for one in records if one["arm"] in arms]
