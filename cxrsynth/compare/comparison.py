"""A comparison from its recipe to its results; what is done is kept, so re-running the command goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxrsynth.compare.check import check, keep_apart, masks
from cxrsynth.compare.cost import costs
from cxrsynth.compare.grid import Grid, Run, plan
from cxrsynth.compare.recipe import CompareRecipe, TestSet
from cxrsynth.compare.schedule import Progress, run_all
from cxrsynth.compare.significance import Table, difference, equivalent, holm, ratio, significance, wilcoxon
from cxrsynth.evaluate.metrics import METRICS
from cxrsynth.evaluate.results import Record, record
from cxrsynth.lock import writing

ALL_REAL = Run(0, real=0).arm


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a comparison.

    Attributes:
        records: tidy records: what each arm's training took, its figures, differences, ratios and real equivalents.
        comparisons: one entry per pair, test and class. ``p`` and its correction come from the draws of the interval;
            ``p_wilcoxon`` takes the trainings as they are.
        curves: what the plot shows: ``{"test", "kind", "images", "value", "lo", "hi", "arm"}``, of the classes' mean.
    """

    records: list[Record]
    comparisons: list[dict[str, Any]]
    curves: list[dict[str, Any]]


def compare(
    recipe: CompareRecipe, out: Path, device: str = "auto", progress: Progress | None = None, workers: int = 1
) -> Outcome:
    """Train and measure all runs, then compare them.

    Args:
        workers: processes that train runs side by side.

    Raises:
        UsageError: classes that do not match, an empty split, fewer images than asked for, or ``out`` in a dataset.
        MismatchError: an unfinished dataset, a mask that does not fit, a patient in training and test.
    """
    keep_apart(recipe, out)
    check(recipe, masks(recipe))
    grid = Grid(recipe, out, device)
    runs = plan(recipe)
    with writing(out):
        run_all(grid, runs, workers, progress)
        return conclude(grid, runs)


def updates(recipe: CompareRecipe, out: Path) -> tuple[int, int]:
    """How many updates a comparison takes, and how many of them are in finished runs."""
    grid, runs = Grid(recipe, out), plan(recipe)
    done = sum(run.updates(recipe) for run in runs if grid.done(run))
    return sum(run.updates(recipe) for run in runs), done


def conclude(grid: Grid, runs: Sequence[Run]) -> Outcome:
    """Statistics of finished runs."""
    recipe = grid.recipe
    records: list[Record] = costs(grid, runs, "compare")
    comparisons: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    shown = [run for run in runs if run.shown]
    for test in recipe.tests:
        arms: dict[str, list[Any]] = {}
        for run in shown:
            arms.setdefault(run.arm, []).append(grid.figures(run, test))
        table = Table(arms)
        records += values_of(table, test, recipe)
        pairs = compare_arms(table, test, pairs_of(shown, recipe.others))
        comparisons += pairs
        for item in pairs:
            names = (item["arm"], item["against"], item["class"])
            change = (item["difference"], *item["difference_interval"])
            label = f"{names[0]} - {names[1]}"
            records.append(_record(recipe, test, label, "dice_difference", change, item["n"], names[2]))
            # The ratio says how images do in place of all real ones; gains are differences.
            if item["ratio"] is not None and names[1] == ALL_REAL:
                share = (item["ratio"], *item["ratio_interval"])
                label = f"{names[0]} / {names[1]}"
                records.append(_record(recipe, test, label, "dice_ratio", share, item["n"], names[2]))
        points, equals = scaling(table, test, recipe, grid.counted(runs), shown)
        curves += points
        records += equals
    return Outcome(records, comparisons, curves)


def values_of(table: Table, test: TestSet, recipe: CompareRecipe) -> list[Record]:
    """Every arm, class and metric."""
    found = []
    for arm in table.arms:
        for klass in [*table.classes, "mean"]:
            for metric in METRICS:
                estimate = table.estimate(arm, klass, metric)
                if estimate is not None:
                    in_mm = table.unit == "mm" and metric in ("hd95", "nsd")
                    name = f"{metric}_mm" if in_mm else metric
                    found.append(_record(recipe, test, arm, name, estimate.interval, estimate.n, klass))
    return found


def pairs_of(runs: Sequence[Run], others: Mapping[str, Path] | None = None) -> list[tuple[str, str]]:
    """Which arms are compared: synthetic with all real; mixed and fine-tuned with the same real images alone, and with
    each other; the teacher's masks with those of the same images, and its synthetic images with its real ones.

    Another synthetic dataset is compared with the first, for every number of its images, and with other trainings on
    the same images.

    Args:
        others: name -> folder of the other synthetic datasets.
    """
    folders = others or {}
    arms = {run.arm: run for run in runs}
    pairs = []
    for arm, run in arms.items():
        if run.real is None or run.teacher:
            pairs.append((arm, ALL_REAL))
        elif run.synthetic is not None or run.pseudo:
            pairs.append((arm, Run(0, real=run.real).arm))
            pairs.append((arm, Run(0, run.real, run.synthetic, dataset=run.dataset).arm))
            pairs.append((arm, Run(0, run.real, pseudo=True).arm))
        if run.dataset:
            beside = [other for other in arms.values() if run.like(other)]
            pairs += [(arm, other.arm) for other in beside if not other.dataset]
            earlier = list(folders)[: list(folders).index(run.dataset)]
            same = [name for name in earlier if folders[name] == folders[run.dataset]]
            pairs += [(arm, other.arm) for other in beside if other.dataset in same]
        if run.teacher and run.synthetic is not None:
            pairs.append((arm, Run(0, synthetic=run.synthetic).arm))
            pairs.append((arm, Run(0, real=0, teacher=True).arm))
    return [pair for pair in dict.fromkeys(pairs) if pair[0] != pair[1] and set(pair) <= set(arms)]


def compare_arms(table: Table, test: TestSet, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Difference and ratio of Dice per pair and class; p values are corrected over all of one test."""
    found = []
    for arm, against in pairs:
        for klass in [*table.classes, "mean"]:
            first, second = table.estimate(arm, klass, "dice"), table.estimate(against, klass, "dice")
            if first is None or second is None:
                continue
            change, share = difference(first, second), ratio(first, second)
            found.append(
                {
                    "test": test.label, "arm": arm, "against": against, "class": klass, "n": min(first.n, second.n),
                    "difference": change[0], "difference_interval": list(change[1:]),
                    "ratio": share and share[0], "ratio_interval": share and list(share[1:]),
                    "p": significance(first, second), "p_wilcoxon": wilcoxon(first, second),
                }
            )  # fmt: skip
    for item, corrected in zip(found, holm([item["p"] for item in found]), strict=True):
        item["p_holm"] = corrected
    return found


def scaling(
    table: Table, test: TestSet, recipe: CompareRecipe, counted: dict[str, int], runs: Sequence[Run]
) -> tuple[list[dict[str, Any]], list[Record]]:
    """Mean Dice against the number of real patients or synthetic images; how many patients S(M) equals."""
    points, equals = [], []
    arms = {run.arm: run for run in runs}
    real: dict[str, int] = {}
    for arm, run in arms.items():
        estimate = table.estimate(arm, "mean", "dice")
        if estimate is None:
            continue
        value, low, high = estimate.interval
        images = counted[arm]
        if run.dataset and (made_with := recipe.also[run.dataset].made_with) is not None:
            kind, images = ("few", made_with) if run.real is None else ("few_mixed", images)
        elif run.dataset:
            kind = "other"
        elif run.pseudo:
            kind = "pseudo"
        elif run.teacher:
            kind = "real_teacher" if run.synthetic is None else "teacher"
        elif run.synthetic is None:
            kind = "real"
            real[arm] = counted[arm]
        elif run.real is None:
            kind = "synthetic"
        else:
            kind = run.order
        point = {"test": test.label, "kind": kind, "arm": arm, "images": images}
        points.append({**point, "value": value, "lo": low, "hi": high})
    ladder = sorted(real, key=lambda arm: real[arm])
    if len(ladder) > 1:
        estimates = [table.estimate(arm, "mean", "dice") for arm in ladder]
        known = [(real[arm], one) for arm, one in zip(ladder, estimates, strict=True) if one is not None]
        for arm, run in arms.items():
            goal = table.estimate(arm, "mean", "dice")
            if run.real is None and goal is not None:
                figures, sign = equivalent([n for n, _ in known], [one for _, one in known], goal)
                found = _record(recipe, test, arm, "real_equivalents", figures, goal.n, "mean")
                equals.append({**found, "sign": sign})
    return points, equals


def _record(
    recipe: CompareRecipe, test: TestSet, arm: str, metric: str, figures: tuple[float, float, float], n: int, klass: str
) -> Record:
    return record("compare", arm, f"{recipe.name}:{test.label}", metric, figures, n, klass, list(recipe.seeds))
