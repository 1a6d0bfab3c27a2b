"""A trained classifier on films it has not seen: AUROC per label with intervals, over all pairs and within a source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxrsynth.data.labelled import Source
from cxrsynth.data.multilabel import SaidFilm, gather_said, table_of
from cxrsynth.errors import MismatchError
from cxrsynth.evaluate.results import Record, record
from cxrsynth.nets.classifier import COMMAND, WHAT, Classifier
from cxrsynth.nets.segmenter import locate
from cxrsynth.statistics import auroc_interval, auroc_within

CHUNK = 256


@dataclass(frozen=True, slots=True)
class Judged:
    """What a classifier says about the films of a split, next to what is known.

    Attributes:
        labels: names, in the order of the columns.
        keys: of the films.
        patients: of the films.
        sources: of the films.
        truth: (N, K) float32 of 1, 0 and NaN.
        scores: (N, K) float32 probabilities.
    """

    labels: tuple[str, ...]
    keys: list[str]
    patients: list[str]
    sources: list[str]
    truth: np.ndarray
    scores: np.ndarray

    def records(self, arm: str, dataset: str, benchmark: str = "classify", seeds: Sequence[int] = (0,)) -> list[Record]:
        """The figures in the tidy form; ``auroc_within`` counts pairs of the same source only."""
        found = []
        for label, item in figures_of(self.labels, self.truth, self.scores, self.patients, self.sources).items():
            pooled = (item["auroc"], item["lo"], item["hi"])
            found.append(record(benchmark, arm, dataset, "auroc", pooled, item["n"], label, seeds))
            if item["within"] is not None:
                inside = (item["within"], item["within_lo"], item["within_hi"])
                found.append(record(benchmark, arm, dataset, "auroc_within", inside, item["n"], label, seeds))
        return found

    def as_json(self) -> dict[str, Any]:
        """Every film's scores, for paired tests; what is unknown is null."""
        rows = [
            {
                "key": key,
                "patient": patient,
                "source": source,
                "scores": [round(float(value), 5) for value in scores],
                "truth": [None if value != value else int(value) for value in truth],
            }
            for key, patient, source, scores, truth in zip(
                self.keys, self.patients, self.sources, self.scores, self.truth, strict=True
            )
        ]
        return {"labels": list(self.labels), "films": rows}


def judge(
    classifier: Classifier,
    data: Path,
    split: str = "test",
    labels: Sequence[str] = (),
    sources: Sequence[str] = (),
    learned: dict[str, list[str]] | None = None,
) -> Judged:
    """Apply a classifier to the films of a split of which anything is known.

    Args:
        labels: what to measure; by default all that the classifier knows.
        sources: only films of these sources.
        learned: patients it was trained on, as `patients_of` gives them.

    Raises:
        UsageError: a label it does not know, or no film that says anything about the labels.
        MismatchError: an unfinished dataset, or a film of a patient that it was trained on.
    """
    wanted = tuple(labels) or classifier.labels
    columns = [classifier.index(label) for label in wanted]
    films = gather_said(Source(data), split, wanted, classifier.config.get("negatives", "normal"), sources)
    if split != "train":
        refuse_known(films, set((learned or {}).get("train", [])))
    parts = [
        classifier([film.image() for film in films[start : start + CHUNK]]) for start in range(0, len(films), CHUNK)
    ]
    return Judged(
        wanted,
        [film.row["key"] for film in films],
        [film.patient for film in films],
        [str(film.row.get("source", "")) for film in films],
        table_of(films),
        np.concatenate(parts)[:, columns],
    )


def refuse_known(films: Sequence[SaidFilm], seen: set[str]) -> None:
    """Refuse to test on a patient that a network was trained on.

    Raises:
        MismatchError: naming the film and the patient.
    """
    for film in films:
        if film.patient in seen:
            raise MismatchError(
                f"{film.path}: patient {film.patient} was in the training of this network",
                "give all films of a patient the same split, or measure on another dataset",
            )


def patients_of(folder: Path) -> dict[str, list[str]]:
    """The patients a trained classifier has seen: ``{"train": [...], "val": [...]}``."""
    path = locate(folder, WHAT, COMMAND) / "films.json"
    found: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def figures_of(
    labels: Sequence[str], truth: np.ndarray, scores: np.ndarray, patients: Sequence[str], sources: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """AUROC per label with a 95 % interval by patient, over all films and over pairs of the same source.

    Returns:
        label -> ``{"auroc", "lo", "hi", "within", "within_lo", "within_hi", "n", "positive"}``; a label of which one
        kind is missing is left out, and ``within`` is None where no source has both kinds.
    """
    groups = np.unique(np.asarray(sources), return_inverse=True)[1]
    found: dict[str, dict[str, Any]] = {}
    for k, label in enumerate(labels):
        known = ~np.isnan(truth[:, k])
        values = np.stack([scores[known, k], truth[known, k], groups[known]], axis=1)
        if len(np.unique(values[:, 1])) < 2:
            continue
        names = [name for name, is_known in zip(patients, known, strict=True) if is_known]
        value, low, high = (round(x, 4) for x in auroc_interval(values, names))
        entry: dict[str, Any] = {"auroc": value, "lo": low, "hi": high}
        entry |= {"within": None, "within_lo": None, "within_hi": None}
        if not np.isnan(auroc_within(values)):
            inside = [round(x, 4) for x in auroc_interval(values, names, within=True)]
            entry |= dict(zip(("within", "within_lo", "within_hi"), inside, strict=True))
        found[label] = {**entry, "n": int(known.sum()), "positive": int(values[:, 1].sum())}
    return found
