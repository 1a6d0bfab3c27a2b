"""Mask chains side by side on the same maps: what refinement gains, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from cxrsynth.data.documents import read_yaml
from cxrsynth.errors import CxrError, RecipeError, UsageError
from cxrsynth.evaluate.mask_sets import gather
from cxrsynth.evaluate.masks import renumber
from cxrsynth.evaluate.metrics import Scores, average, column, score, summarise
from cxrsynth.evaluate.results import Record, bootstrap, record
from cxrsynth.masks.labels import Labelling, make_sample
from cxrsynth.recipe import Recipe, parse
from cxrsynth.recipe.files import absolute
from cxrsynth.records import Draw
from cxrsynth.store import Store


@dataclass(frozen=True, slots=True)
class Measured:
    """One chain on all images.

    Attributes:
        images: figures of each image.
        seconds: (N,) float64 from maps to labels, one image after the other in one process.
    """

    images: list[Scores]
    seconds: np.ndarray


def load_chains(path: Path, dataset: Path) -> dict[str, Labelling]:
    """The chains of a file, each a ``masks`` block of a recipe, for the classes of a dataset.

    Args:
        path: YAML with ``chains: {name: {normalise: ..., refine: [...]}, ...}``, and perhaps ``pairs``.
        dataset: what ``annotate`` or ``generate`` wrote, with its ``recipe.yaml``.

    Raises:
        RecipeError: not of this form, or a chain has a wrong name or value; the message names it.
        UsageError: the dataset keeps no recipe.
    """
    own = dataset / "recipe.yaml"
    if not own.is_file():
        raise UsageError(f"{dataset} keeps no recipe", "name a dataset that generate or annotate wrote")
    body = read(path)
    raw: dict[str, Any] = read_yaml(own)
    chains = {}
    for name, masks in body["chains"].items():
        try:
            recipe: Recipe = parse({**raw, "masks": absolute(masks, path.parent)}, f"{path}: {name}")
            chains[name] = Labelling.from_recipe(recipe)
        except RecipeError as error:
            raise RecipeError(f"chain '{name}': {error.message}", error.hint) from error
    return chains


def load_pairs(path: Path) -> list[tuple[str, str]]:
    """The chains of a file whose differences are asked for: ``pairs: [[a, b], ...]`` is a minus b; none by default.

    Raises:
        RecipeError: not of this form, or a name that is no chain.
    """
    body = read(path)
    pairs = body.get("pairs", [])
    known = ", ".join(body["chains"])
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not set(pair) <= set(body["chains"]):
            raise RecipeError(f"{path}: {pair} is no pair of chains", f"two of {known}")
    return [(one, other) for one, other in pairs]


def read(path: Path) -> dict[str, Any]:
    """A file of chains as a mapping.

    Raises:
        RecipeError: it cannot be read, or names no chains.
    """
    try:
        body = read_yaml(path)
    except UsageError as error:
        raise RecipeError(
            f"cannot read the chains: {error.message}", "recipes/bench/masks.yaml is one to start from"
        ) from error
    if not isinstance(body, dict) or not isinstance(body.get("chains"), dict):
        raise RecipeError(f"{path} has no 'chains:' block", "recipes/bench/masks.yaml is one to start from")
    return body


def measure(
    annotated: Path,
    true: Path,
    chains: dict[str, Labelling],
    splits: Sequence[str] = (),
    on_image: Callable[[int, int, dict[str, float]], None] | None = None,
) -> tuple[dict[str, Measured], list[str]]:
    """Label the images of ``annotated`` from their stored maps by every chain, and compare with ``true``.

    Args:
        splits: of the truth: only these.
        on_image: called with (steps done, steps planned, figures) after every image of every chain.

    Returns:
        Chain -> its figures, and the patient of each image.

    Raises:
        UsageError: no common image or class, or no stored maps.
    """
    store, theirs = Store(annotated), gather(true, splits)
    rows = [row for row in store.rows() if row["key"] in theirs.masks]
    if not rows:
        raise UsageError(f"{annotated} and {true} have no image in common", "annotate images of that dataset first")
    found: dict[str, Measured] = {}
    for number, (name, chain) in enumerate(chains.items()):
        shared = {klass: theirs.classes[klass] for klass in chain.classes if klass in theirs.classes}
        if not shared:
            raise UsageError(f"{true} has none of the classes {', '.join(chain.classes)}", "compare the same classes")
        images: list[Scores] = []
        seconds = []
        for position, row in enumerate(rows):
            stored = store.load_maps(row)
            if stored is None:
                raise UsageError(f"{annotated} keeps no maps", "annotate with masks.keep_maps: true")
            draw = Draw.stored(store.load_image(row), stored)
            if position == 0:
                make_sample(draw, chain)  # networks are loaded and libraries warm before the clock runs
            started = time.perf_counter()
            sample = make_sample(draw, chain)
            seconds.append(time.perf_counter() - started)
            mask = renumber(sample.mask, chain.classes, shared)
            images.append(score(theirs.masks[row["key"]].load(), mask, shared))
            if on_image is not None:
                done = number * len(rows) + position + 1
                on_image(done, len(chains) * len(rows), {f"{name} dice": float(average(images, "dice").mean())})
        found[name] = Measured(images, np.array(seconds))
    return found, [theirs.masks[row["key"]].patient for row in rows]


def records(
    measured: dict[str, Measured], patients: Sequence[str], dataset: str, pairs: Sequence[tuple[str, str]] = ()
) -> list[Record]:
    """Figures of every chain, milliseconds per image; paired differences to the first and the best chain.

    Args:
        pairs: chains whose difference, the first minus the second, is wanted too.
    """
    found = []
    for name, one in measured.items():
        for line in summarise(one.images, patients):
            figures = (line["value"], line["lo"], line["hi"])
            found.append(record("masks", name, dataset, line["metric"], figures, line["n"], line["class"]))
        times = bootstrap(one.seconds * 1000, patients)
        found.append(record("masks", name, dataset, "ms", times, len(one.seconds)))
    ends = {next(iter(measured)), best(found)}
    told = [(second, first) for first, second in combinations(measured, 2) if ends & {first, second}]
    for one_name, other in dict.fromkeys([*told, *pairs]):
        for klass in (*measured[other].images[0], "mean"):
            gain = figures_of(measured[one_name], klass) - figures_of(measured[other], klass)
            counts = ~np.isnan(gain)
            if counts.any():
                groups = [patient for patient, use in zip(patients, counts, strict=True) if use]
                figures = bootstrap(gain[counts], groups)
                arm = f"{one_name} - {other}"
                found.append(record("masks", arm, dataset, "dice_difference", figures, int(counts.sum()), klass))
    return found


def figures_of(one: Measured, klass: str) -> np.ndarray:
    """(N,) Dice of a class, or of the mean over classes."""
    return average(one.images, "dice") if klass == "mean" else column(one.images, klass, "dice")


def best(found: Sequence[Record]) -> str:
    """Name of the chain with the highest mean Dice.

    Raises:
        CxrError: there are no figures.
    """
    means = {one["arm"]: one["value"] for one in found if one["metric"] == "dice" and one["class"] == "mean"}
    if not means:
        raise CxrError("no chain was measured", "name a file with at least one chain")
    return max(means, key=lambda name: float(means[name]))
