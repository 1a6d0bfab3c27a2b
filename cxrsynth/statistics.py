"""A figure and how sure it is: bootstrap by patient, and the area under the ROC curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

REPEATS = 2000


def bootstrap(
    values: np.ndarray,
    groups: Sequence[str] | None = None,
    statistic: Callable[[np.ndarray], float] | None = None,
    seed: int = 0,
) -> tuple[float, float, float]:
    """A statistic of (N, ...) values with its 95 % interval, resampled by patient.

    Args:
        groups: the patient of each value; every value is its own patient by default.
        statistic: of the drawn values; the mean by default.

    Returns:
        The statistic of all values, and the 2.5th and 97.5th percentile over the draws.
    """
    values = np.asarray(values)
    names = np.arange(len(values)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    members = [np.flatnonzero(names == name) for name in range(int(names.max()) + 1)]
    rng = np.random.default_rng(seed)
    if statistic is None and values.ndim == 1:
        # The mean of drawn patients needs only the sum and the count of each: a hundred times faster.
        known = ~np.isnan(values)
        sums, counts = (np.bincount(names, part) for part in (np.where(known, values, 0.0), known.astype(float)))
        picks = rng.integers(len(members), size=(REPEATS, len(members)))
        with np.errstate(invalid="ignore"):
            means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
            low, high = np.nanpercentile(means, (2.5, 97.5))
            return float(sums.sum() / counts.sum()), float(low), float(high)
    statistic = statistic or (lambda chosen: float(np.nanmean(chosen)))
    draws = []
    for _ in range(REPEATS):
        picked = rng.integers(len(members), size=len(members))
        draws.append(statistic(values[np.concatenate([members[i] for i in picked])]))
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return statistic(values), float(low), float(high)


def auroc(values: np.ndarray) -> float:
    """(N, 2) score and label -> chance that a labelled one scores higher than another, ties as halves.

    NaN where one of the two kinds is missing.
    """
    won, pairs = _wins(values[:, 0], values[:, 1] == 1)
    return won / pairs if pairs else float("nan")


def auroc_within(values: np.ndarray) -> float:
    """(N, 3) score, label and group -> AUROC over the pairs of one group only.

    Where a source has nearly only images of one kind, telling sources apart looks like finding the disease. Pairs
    from the same source show what is left without that.
    """
    won = pairs = 0.0
    for group in np.unique(values[:, 2]):
        part = values[values[:, 2] == group]
        more, count = _wins(part[:, 0], part[:, 1] == 1)
        won, pairs = won + more, pairs + count
    return won / pairs if pairs else float("nan")


def auroc_interval(
    values: np.ndarray, groups: Sequence[str], within: bool = False, seed: int = 0
) -> tuple[float, float, float]:
    """What `bootstrap` gives for `auroc`, or for `auroc_within`, a hundred times faster.

    Every pair is compared once; a draw only says how often each image counts.

    Args:
        values: (N, 2) score and label, or (N, 3) with the group that ``within`` compares in.
        groups: the patient of each value.
    """
    patients = np.unique(np.asarray(groups), return_inverse=True)[1]
    ones, zeros = np.flatnonzero(values[:, 1] == 1), np.flatnonzero(values[:, 1] == 0)
    score = values[:, 0]
    higher = score[ones, None] - score[None, zeros]
    counted = values[ones, None, 2] == values[None, zeros, 2] if within else np.ones(higher.shape, bool)
    won = ((higher > 0) + 0.5 * (higher == 0)) * counted
    rng, count = np.random.default_rng(seed), int(patients.max()) + 1
    picks = rng.integers(count, size=(REPEATS, count))
    times = np.stack([np.bincount(pick, minlength=count) for pick in picks])[:, patients].astype(float)
    with np.errstate(invalid="ignore"):
        pairs = ((times[:, ones] @ counted) * times[:, zeros]).sum(axis=1)
        draws = ((times[:, ones] @ won) * times[:, zeros]).sum(axis=1) / pairs
        low, high = np.nanpercentile(draws, (2.5, 97.5))
        return float(won.sum() / counted.sum()), float(low), float(high)


def _wins(score: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """How many pairs (labelled, other) are in the right order, ties as halves, and how many there are."""
    ones, zeros = score[label], np.sort(score[~label])
    below = np.searchsorted(zeros, ones, "left").sum() + np.searchsorted(zeros, ones, "right").sum()
    return float(below) / 2, float(len(ones) * len(zeros))
