"""A comparison from its recipe to its results; what is done is kept, so typing the command again goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxrsynth.compare.cells import Cell, Laboratory, identity, plan
from cxrsynth.compare.recipe import CompareRecipe, TestSet
from cxrsynth.compare.statistics import Table, difference, equivalent, holm, ratio, wilcoxon
from cxrsynth.evaluate.metrics import METRICS
from cxrsynth.evaluate.results import Record, record
from cxrsynth.train.labelled import choose_classes

# (finished updates, what is going on)
Progress = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a comparison.

    Attributes:
        records: tidy records: figures of every arm, differences, ratios and real equivalents.
        comparisons: one entry per pair, test and class, with p and corrected p.
        curves: what the plot shows: ``{"test", "kind", "films", "value", "lo", "hi", "arm"}``, of the classes' mean.
    """

    records: list[Record]
    comparisons: list[dict[str, Any]]
    curves: list[dict[str, Any]]


def compare(recipe: CompareRecipe, out: Path, device: str = "auto", progress: Progress | None = None) -> Outcome:
    """Train and measure all cells, then compare them.

    Raises:
        UsageError: classes that do not match, an empty split, fewer films than asked for.
        MismatchError: an unfinished dataset, a mask that does not fit, a patient in training and test.
    """
    check(recipe)
    laboratory = Laboratory(recipe, out, device)
    cells = plan(recipe)
    finished = 0
    for cell in cells:
        before = finished

        def advance(done: int, what: str, before: int = before) -> None:
            if progress:
                progress(before + done, what)

        laboratory.run(cell, advance)
        finished += cell.updates(recipe)
        advance(cell.updates(recipe), cell.arm)
    return conclude(laboratory, cells)


def updates(recipe: CompareRecipe, out: Path) -> tuple[int, int]:
    """How many updates a comparison takes, and how many of them are in finished cells."""
    laboratory, cells = Laboratory(recipe, out), plan(recipe)
    done = sum(cell.updates(recipe) for cell in cells if laboratory.done(cell))
    return sum(cell.updates(recipe) for cell in cells), done


def check(recipe: CompareRecipe) -> None:
    """Cheap checks of all datasets before the first hour of training."""
    choose_classes([recipe.real, recipe.synthetic], recipe.train.classes)
    for root in (recipe.real, recipe.synthetic, *(test.data for test in recipe.tests)):
        identity(root)


def conclude(laboratory: Laboratory, cells: Sequence[Cell]) -> Outcome:
    """Statistics of finished cells."""
    recipe = laboratory.recipe
    records: list[Record] = []
    comparisons: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    shown = [cell for cell in cells if cell.shown]
    for test in recipe.tests:
        arms: dict[str, list[Any]] = {}
        for cell in shown:
            arms.setdefault(cell.arm, []).append(laboratory.figures(cell, test))
        table = Table(arms)
        records += values_of(table, test, recipe)
        pairs = compare_arms(table, test, pairs_of(shown))
        comparisons += pairs
        for item in pairs:
            names = (item["arm"], item["against"], item["class"])
            change = (item["difference"], *item["difference_interval"])
            label = f"{names[0]} - {names[1]}"
            records.append(_record(recipe, test, label, "dice_difference", change, item["n"], names[2]))
            if item["ratio"] is not None:
                share = (item["ratio"], *item["ratio_interval"])
                label = f"{names[0]} / {names[1]}"
                records.append(_record(recipe, test, label, "dice_ratio", share, item["n"], names[2]))
        points, equals = scaling(table, test, recipe, laboratory.counted(cells), shown)
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


def pairs_of(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Which arms are compared: synthetic with all real; mixed and fine-tuned with the same real films alone, and with
    each other; attention's masks with the teacher's."""
    arms = {cell.arm: cell for cell in cells}
    every, pairs = Cell(0, real=0).arm, []
    for arm, cell in arms.items():
        if cell.real is None:
            pairs.append((arm, every))
        elif cell.synthetic is not None:
            pairs.append((arm, Cell(0, real=cell.real).arm))
            pairs.append((arm, Cell(0, cell.real, cell.synthetic).arm))
        if cell.teacher:
            pairs.append((arm, Cell(0, synthetic=cell.synthetic).arm))
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
                    "p": wilcoxon(first, second),
                }
            )  # fmt: skip
    for item, corrected in zip(found, holm([item["p"] for item in found]), strict=True):
        item["p_holm"] = corrected
    return found


def scaling(
    table: Table, test: TestSet, recipe: CompareRecipe, counted: dict[str, int], cells: Sequence[Cell]
) -> tuple[list[dict[str, Any]], list[Record]]:
    """Mean Dice against the number of real patients or synthetic films, and how many real patients each S(M) equals."""
    points, equals = [], []
    arms = {cell.arm: cell for cell in cells}
    real: dict[str, int] = {}
    for arm, cell in arms.items():
        estimate = table.estimate(arm, "mean", "dice")
        if estimate is None:
            continue
        value, low, high = estimate.interval
        if cell.synthetic is None:
            kind = "real"
            real[arm] = counted[arm]
        elif cell.real is None:
            kind = "teacher" if cell.teacher else "synthetic"
        else:
            kind = cell.order
        point = {"test": test.label, "kind": kind, "arm": arm, "films": counted[arm]}
        points.append({**point, "value": value, "lo": low, "hi": high})
    ladder = sorted(real, key=lambda arm: real[arm])
    if len(ladder) > 1:
        estimates = [table.estimate(arm, "mean", "dice") for arm in ladder]
        known = [(real[arm], one) for arm, one in zip(ladder, estimates, strict=True) if one is not None]
        for arm, cell in arms.items():
            goal = table.estimate(arm, "mean", "dice")
            if cell.real is None and goal is not None:
                figures, sign = equivalent([n for n, _ in known], [one for _, one in known], goal)
                found = _record(recipe, test, arm, "real_equivalents", figures, goal.n, "mean")
                equals.append({**found, "sign": sign})
    return points, equals


def _record(
    recipe: CompareRecipe, test: TestSet, arm: str, metric: str, figures: tuple[float, float, float], n: int, klass: str
) -> Record:
    return record("compare", arm, f"{recipe.name}, {test.label}", metric, figures, n, klass, list(recipe.seeds))
