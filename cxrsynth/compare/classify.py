"""The downstream utility of synthetic images for a classifier: the runs of a comparison with another network.

    R-all         all real images                       S-M          M synthetic images: as many as real ones, and more
    R-all+S-M     both, half of the draws each         S-M>R-all    synthetic first, then real, half of the updates each

RoentGen reports +5 % for real and synthetic together and +3 % for more synthetic ones alone; its second version +6.5 %
for synthetic first, then real (arXiv 2211.12737, 2508.16783).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cxrsynth.compare.check import Read, check, keep_apart
from cxrsynth.compare.classify_recipe import ClassifyRecipe
from cxrsynth.compare.cost import costs
from cxrsynth.compare.grid import Grid, Run, plan
from cxrsynth.compare.recipe import TestSet
from cxrsynth.compare.schedule import Progress, run_all
from cxrsynth.data.labelled import Source
from cxrsynth.data.multilabel import MultiLabelImage, gather_multilabel
from cxrsynth.device import resolve
from cxrsynth.encoding import dumps
from cxrsynth.evaluate.classification import patients_of, predict
from cxrsynth.evaluate.results import Record, record
from cxrsynth.files import write_atomic
from cxrsynth.lock import writing
from cxrsynth.nets.classifier import load
from cxrsynth.statistics import auroc, auroc_within
from cxrsynth.train.curves import Progress as OnStep
from cxrsynth.train.tasks.classify.training import train_classifier

DRAWS = 1000
Measure = Callable[[np.ndarray], float]
MEASURES: dict[str, Measure] = {"auroc": auroc, "auroc_within": auroc_within}


@dataclass(slots=True)
class ClassifyGrid(Grid):
    """Where classifiers are trained and kept."""

    stem: ClassVar[str] = "classify"
    recipe: ClassifyRecipe

    def fit(self, run: Run, place: Path, init: Path | None, on_step: OnStep) -> None:
        """Train the classifier of a run into ``place/model``."""
        config = self.recipe.settings(run.seed, run.updates(self.recipe))
        train_classifier(self.sources(run), place, config, [Source(self.recipe.real)], init, None, self.device, on_step)

    def measure(self, place: Path) -> None:
        """The scores of every test image, one file per test."""
        for test in self.recipe.tests:
            path = self.figures_path(place, test)
            if not path.exists():
                classifier = load(place, resolve(self.device))
                found = predict(
                    classifier, test.data, test.split, self.recipe.train.labels, test.sources, patients_of(place)
                )
                write_atomic(path, dumps(found.as_json()))


@dataclass(frozen=True, slots=True)
class Scores:
    """What the classifiers of all arms say about the images of a test.

    Attributes:
        labels: names, in the order of the columns.
        truth: (N, K) of 1, 0 and NaN.
        patients: (N,) number of the patient of each image.
        sources: (N,) number of the source.
        arms: arm -> (seeds, N, K) probabilities.
    """

    labels: list[str]
    truth: np.ndarray
    patients: np.ndarray
    sources: np.ndarray
    arms: dict[str, np.ndarray]

    def draws(self, measure: Measure, count: int = DRAWS) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Arm -> (K,) the measure of each label, mean over seeds, and (count, K) of it over resampled patients, with
        one of the seeds each: the spread of both stands in the interval. All arms share the draws, so that differences
        are paired; NaN where a draw lacks one kind."""
        members = [np.flatnonzero(self.patients == i) for i in range(int(self.patients.max()) + 1)]
        rng = np.random.default_rng(0)
        seeds = rng.integers(2**30, size=count)
        picks = [
            np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]) for _ in range(count)
        ]
        everything = np.arange(len(self.truth))
        found = {}
        for arm, scores in self.arms.items():
            value = np.mean([self.each(measure, one, everything) for one in scores], axis=0)
            again = [
                self.each(measure, scores[seed % len(scores)], pick) for seed, pick in zip(seeds, picks, strict=True)
            ]
            found[arm] = (value, np.array(again))
        return found

    def each(self, measure: Measure, scores: np.ndarray, images: np.ndarray) -> np.ndarray:
        """(K,) the measure of each label on chosen images, of which it is known; scores are (N, K)."""
        values = []
        for k in range(len(self.labels)):
            which = images[~np.isnan(self.truth[images, k])]
            values.append(measure(np.stack([scores[which, k], self.truth[which, k], self.sources[which]], axis=1)))
        return np.array(values)


def compare_classifiers(
    recipe: ClassifyRecipe, out: Path, device: str = "auto", progress: Progress | None = None, workers: int = 1
) -> list[Record]:
    """Train and measure all runs; what is done is kept, so calling it again goes on.

    Returns:
        What each arm's training took; AUROC of every arm and label, over all pairs and within sources, and differences
        to the same real images alone.

    Raises:
        UsageError: a label that images of an arm do not have, an empty split, fewer images than asked for.
        MismatchError: an unfinished dataset, or a patient in training and test.
    """
    keep_apart(recipe, out)
    check(recipe, labels(recipe))
    grid = ClassifyGrid(recipe, out, device)
    runs = plan(recipe)
    with writing(out):
        run_all(grid, runs, workers, progress)
        figures = [item for test in recipe.tests for item in conclude(grid, runs, test)]
        return [*costs(grid, runs, "classify"), *figures]


def labels(recipe: ClassifyRecipe) -> Read:
    """Images with the findings that are known of them, as a classifier is trained and measured on them."""
    names, negatives = recipe.train.labels, recipe.train.negatives

    def read(root: Path, split: str, test: TestSet | None) -> list[MultiLabelImage]:
        return gather_multilabel(Source(root), split, names, negatives, test.sources if test else ())

    return read


def scores_of(grid: ClassifyGrid, runs: Sequence[Run], test: TestSet) -> Scores:
    """The scores of all finished runs on a test."""
    arms: dict[str, list[Any]] = {}
    for run in runs:
        if run.shown:
            arms.setdefault(run.arm, []).append(grid.figures(run, test))
    first = next(iter(arms.values()))[0]
    images = first["images"]
    truth = np.array([[np.nan if value is None else value for value in image["truth"]] for image in images], float)
    numbers = [np.unique([image[name] for image in images], return_inverse=True)[1] for name in ("patient", "source")]
    scores = {arm: np.array([[f["scores"] for f in body["images"]] for body in found]) for arm, found in arms.items()}
    return Scores(first["labels"], truth, numbers[0], numbers[1], scores)


def conclude(grid: ClassifyGrid, runs: Sequence[Run], test: TestSet) -> list[Record]:
    """Figures of every arm, and differences to the same real images alone; of synthetic images alone to every number of
    real ones; of another synthetic dataset to the first one too."""
    recipe = grid.recipe
    scores = scores_of(grid, runs, test)
    dataset = f"{recipe.name}:{test.label}"
    only_real = list(dict.fromkeys(run.arm for run in runs if run.synthetic is None))
    seen = {run.arm: run for run in runs if run.shown and run.synthetic is not None}
    rivals = {
        run.arm: [
            *(only_real if run.real is None else [Run(0, real=run.real).arm]),
            *(other.arm for other in seen.values() if run.dataset and not other.dataset and run.like(other)),
        ]
        for run in seen.values()
    }
    counts = (~np.isnan(scores.truth)).sum(axis=0).tolist()
    names, images = [*scores.labels, "mean"], [*counts, len(scores.truth)]
    records: list[Record] = []
    for metric, measure in MEASURES.items():
        found = {arm: (with_mean(value), with_mean(again)) for arm, (value, again) in scores.draws(measure).items()}
        for arm, (value, again) in found.items():
            for k, (name, n) in enumerate(zip(names, images, strict=True)):
                if np.isnan(value[k]):
                    continue  # the test images show one kind only
                figures = spread(value[k], again[:, k])
                records.append(record("classify", arm, dataset, metric, figures, n, name, recipe.seeds))
                for rival in rivals.get(arm, []):
                    if rival in found:
                        change = spread(value[k] - found[rival][0][k], again[:, k] - found[rival][1][:, k])
                        where = ("classify", f"{arm} - {rival}", dataset, f"{metric}_difference")
                        records.append(record(*where, change, n, name, recipe.seeds))
    return records


def with_mean(values: np.ndarray) -> np.ndarray:
    """(..., K) -> (..., K + 1): the mean of the known ones behind the others."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(axis=-1) / np.maximum(known.sum(axis=-1), 1)
    return np.concatenate([values, np.where(known.any(axis=-1), total, np.nan)[..., None]], axis=-1)


def spread(value: float, again: np.ndarray) -> tuple[float, float, float]:
    """A value with its 95 % interval over draws."""
    low, high = np.nanpercentile(again, (2.5, 97.5))
    return value, float(low), float(high)
