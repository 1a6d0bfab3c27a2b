"""Paired statistics of arms: intervals of values, differences and ratios, p values with Holm, real equivalents.

Patients and seeds are resampled: each of the 2000 draws takes one set of patients, the same for all arms (so that
differences are paired), and for each arm its own set of seeds (so that the spread of trainings is in the interval).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from cxrsynth.statistics import REPEATS

Figures = Mapping[str, Any]  # what a run's `as_json` says of one test
Interval = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over patients and seeds.

    Attributes:
        value: of all of them.
        draws: (REPEATS,) float64, of the synthetic ones.
        patients: (G,) float64 per patient, mean over images and seeds; NaN where nothing counts.
        n: images that count in at least one seed.
    """

    value: float
    draws: np.ndarray
    patients: np.ndarray
    n: int

    @property
    def interval(self) -> Interval:
        """Value and 95 % interval."""
        return self.value, *limits(self.draws)


class Table:
    """The figures of all arms on one test.

    Args:
        arms: arm -> one `Figures` per seed; all have the same images.
    """

    def __init__(self, arms: Mapping[str, Sequence[Figures]]) -> None:
        self.arms = {name: list(runs) for name, runs in arms.items()}
        images = next(iter(self.arms.values()))[0]["images"]
        self.keys = [image["key"] for image in images]
        self.classes = list(images[0]["scores"])
        self.unit = str(next(iter(self.arms.values()))[0]["unit"])
        self.group = np.unique([image["patient"] for image in images], return_inverse=True)[1]
        count = int(self.group.max()) + 1
        picks = np.random.default_rng(0).integers(count, size=(REPEATS, count))
        # (REPEATS, G): how often each draw takes each patient.
        self.weights = np.stack([np.bincount(pick, minlength=count) for pick in picks]).astype(float)

    def values(self, arm: str, klass: str, metric: str) -> np.ndarray:
        """(S, N) float64 per seed and image; class ``mean`` is the mean of the classes that count in an image."""
        names = self.classes if klass == "mean" else [klass]
        table = np.array(
            [
                [[_number(image["scores"][name][metric]) for name in names] for image in run["images"]]
                for run in self.arms[arm]
            ]
        )  # (S, N, K)
        count = (~np.isnan(table)).sum(axis=2)
        return np.where(count > 0, np.nansum(table, axis=2) / np.maximum(count, 1), np.nan)

    def estimate(self, arm: str, klass: str, metric: str) -> Estimate | None:
        """The mean of an arm, or None where no image counts."""
        values = self.values(arm, klass, metric)
        known = ~np.isnan(values)
        if not known.any():
            return None
        sums = np.stack([np.bincount(self.group, np.where(k, v, 0.0)) for v, k in zip(values, known, strict=True)])
        counts = np.stack([np.bincount(self.group, k.astype(float)) for k in known])  # (S, G)
        with np.errstate(invalid="ignore", divide="ignore"):
            resampled = (sums @ self.weights.T) / (counts @ self.weights.T)  # (S, REPEATS)
            patients = sums.sum(axis=0) / counts.sum(axis=0)
        # Seeds of different arms have nothing in common but their number: each arm draws its own.
        place = list(self.arms).index(arm)
        picks = np.random.default_rng([1, place]).integers(len(values), size=(REPEATS, len(values)))
        draws = resampled[picks, np.arange(REPEATS)[:, None]].mean(axis=1)
        value = float((sums.sum(axis=1) / counts.sum(axis=1)).mean())
        return Estimate(value, draws, patients, int(known.any(axis=0).sum()))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def limits(draws: np.ndarray) -> tuple[float, float]:
    """(REPEATS,) -> the 2.5th and 97.5th percentile; draws without a value are left out."""
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return float(low), float(high)


def difference(first: Estimate, second: Estimate) -> Interval:
    """first - second, paired by patient."""
    return first.value - second.value, *limits(first.draws - second.draws)


def ratio(first: Estimate, second: Estimate) -> Interval | None:
    """first / second, paired by patient; None where the second, or one of its draws, is 0."""
    if not second.value or not np.all(second.draws):
        return None
    return first.value / second.value, *limits(first.draws / second.draws)


def significance(first: Estimate, second: Estimate) -> float:
    """Two-sided p of the difference, from the draws of its interval: below 0.05 where that leaves out 0.

    Patients and seeds are both resampled, so a gain that belongs to one lucky training is none.
    """
    change = first.draws - second.draws
    change = change[~np.isnan(change)]
    if not np.any(change):
        return 1.0
    rarer = min(int((change <= 0).sum()), int((change >= 0).sum()))
    return min(1.0, max(2 * rarer, 1) / len(change))


def wilcoxon(first: Estimate, second: Estimate) -> float:
    """p of the signed-rank test over patients, each the mean of its images and seeds; 1 where none differs.

    It takes the trainings as they are: of the difference between two networks, not between two kinds of data.
    """
    change = first.patients - second.patients
    change = change[~np.isnan(change)]
    if not np.any(change):
        return 1.0
    return float(stats.wilcoxon(change, zero_method="zsplit").pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979), in the order given."""
    order = np.argsort(values)
    corrected = np.empty(len(values))
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = highest
    return [float(value) for value in corrected]


def equivalent(patients: Sequence[int], real: Sequence[Estimate], synthetic: Estimate) -> tuple[Interval, str]:
    """How many real patients train a network as good as the synthetic images do.

    The curve of the real arms is made monotone and read between its points on a logarithmic scale; outside, its end
    is given, and the sign says so.

    Args:
        patients: of each real arm, ascending.
        real: their estimates.

    Returns:
        The number with its interval, and ``<`` (worse than the smallest), ``>`` (better than the largest), or ``=``.
    """
    curve = np.maximum.accumulate([one.value for one in real])
    value = _read(patients, curve, synthetic.value)
    draws = np.maximum.accumulate(np.stack([one.draws for one in real], axis=1), axis=1)  # (REPEATS, arms)
    resampled = np.array([_read(patients, row, goal) for row, goal in zip(draws, synthetic.draws, strict=True)])
    sign = "<" if synthetic.value < curve[0] else ">" if synthetic.value > curve[-1] else "="
    return (value, *limits(resampled)), sign


def _read(patients: Sequence[int], curve: np.ndarray, goal: float) -> float:
    # np.interp needs rising places; equal ones (where the curve was made monotone) are read at their first.
    rising = np.concatenate([[True], np.diff(curve) > 0])
    return float(np.exp(np.interp(goal, curve[rising], np.log(np.asarray(patients, float))[rising])))
