"""Does the picture follow the words? Measured on the pictures, next to the same measure on real films."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cxrsynth.dataset import rows
from cxrsynth.evaluate.images import see
from cxrsynth.evaluate.results import Record, record
from cxrsynth.interval import auroc, bootstrap
from cxrsynth.store import Row, Store

# What is told apart -> (words in the prompt of the one kind, of the other).
KINDS = {"AP against PA": ("AP view", "PA view"), "child against adult": ("child", "adult")}
RIDGE = 30.0


def heart_size(made: Path, name: str) -> list[Record]:
    """Does "cardiomegaly" draw a larger heart? Cardiothoracic ratio of the films' own labels, with and without it.

    The labels come from the same model's attention, so this shows that words move picture and map together; a
    segmenter that has learned from real films is the stricter judge.
    """
    store = Store(made)
    ids = store.classes()
    chosen = rows(made, keep=lambda row: row.get("mask") is not None)
    ratios = np.array([cardiothoracic_ratio(store.load_mask(row), ids) for row in chosen])
    large = np.array(["cardiomegaly" in row["prompt"] for row in chosen])
    usable = ~np.isnan(ratios)
    if not (large & usable).any() or not (~large & usable).any():
        return []
    values = np.stack([ratios[usable], large[usable]], axis=1)
    dataset = made.name
    records = [
        record("images", name, dataset, "auroc", bootstrap(values, statistic=auroc), len(values), "cardiomegaly")
    ]
    for label, which in (("cardiomegaly", large), ("other", ~large)):
        chosen_ratios = ratios[which & usable]
        records.append(record("images", name, dataset, "ratio", bootstrap(chosen_ratios), len(chosen_ratios), label))
    return records


def kind(row: Row, what: str) -> float:
    """1 for the first kind, 0 for the second, NaN where the film or its prompt does not say."""
    if row.get("view") and what == "AP against PA":
        return float(row["view"] == "AP")
    if row.get("population") and what == "child against adult":
        return float(row["population"] == "pediatric")
    one, other = (words in row["prompt"] for words in KINDS[what])
    return float("nan") if one == other else float(one)


def kinds(model: Path, real: Path, made: Path, name: str) -> list[Record]:
    """A linear classifier on autoencoder features, trained on real films, judges drawn ones: AUROC against the prompt.

    The same classifier's AUROC on held-out real films is arm ``real``: what it can see at all.
    """
    seen = {"train": see(model, real, "train"), "real": see(model, real, "test"), name: see(model, made)}
    found = {arm: part.features for arm, part in seen.items()}
    sets = {arm: part.rows for arm, part in seen.items()}
    records: list[Record] = []
    for what in KINDS:
        truth = {arm: np.array([kind(row, what) for row in part]) for arm, part in sets.items()}
        judge = linear(found["train"], truth["train"])
        for arm in ("real", name):
            known = ~np.isnan(truth[arm])
            if len(set(truth[arm][known])) < 2:
                continue
            values = np.stack([judge(found[arm][known]), truth[arm][known]], axis=1)
            figures = bootstrap(values, patients(sets[arm], known), auroc)
            dataset = made.name if arm == name else f"{real.name}:test"
            records.append(record("images", arm, dataset, "auroc", figures, len(values), what))
    return records


def patients(part: Sequence[Row], known: np.ndarray) -> list[str]:
    """The patient of each chosen film; a drawn film is its own."""
    return [str(row.get("patient") or row["key"]) for row, chosen in zip(part, known, strict=True) if chosen]


def linear(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Ridge regression of labels on standardised features, both labels counting the same."""
    known = ~np.isnan(y)
    x, y = x[known], y[known]
    middle, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
    weight = np.where(y == 1, 0.5 / max(1, int((y == 1).sum())), 0.5 / max(1, int((y == 0).sum()))) * len(y)
    z = np.concatenate([(x - middle) / spread, np.ones((len(x), 1))], axis=1)
    solved = np.linalg.solve(
        (z * weight[:, None]).T @ z + RIDGE * np.eye(z.shape[1]), (z * weight[:, None]).T @ (2 * y - 1)
    )
    return lambda new: ((new - middle) / spread) @ solved[:-1] + solved[-1]


def cardiothoracic_ratio(mask: np.ndarray | None, ids: dict[str, int]) -> float:
    """Widest heart over widest chest (outer lung edges), in pixels; NaN where a lung or the heart is missing."""
    if mask is None or not all((mask == ids[name]).any() for name in ("right_lung", "left_lung", "heart")):
        return float("nan")
    heart = np.flatnonzero((mask == ids["heart"]).any(axis=0))
    chest = np.flatnonzero(((mask == ids["right_lung"]) | (mask == ids["left_lung"])).any(axis=0))
    return float((heart[-1] - heart[0] + 1) / (chest[-1] - chest[0] + 1))
