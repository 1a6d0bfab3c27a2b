"""A trained classifier on images it has not seen: AUROC per label with intervals, over all pairs and per source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cxrsynth.data.labelled import Source
from cxrsynth.data.multilabel import MultiLabelImage, gather_multilabel, table_of
from cxrsynth.data.patients import patients_seen, refuse_seen
from cxrsynth.evaluate.results import Record, record
from cxrsynth.nets.classifier import COMMAND, WHAT, Classifier, probabilities
from cxrsynth.nets.network_folder import locate
from cxrsynth.statistics import auroc, auroc_interval, auroc_within

CHUNK = 256


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a classifier says about the images of a split, next to what is known.

    Attributes:
        labels: names, in the order of the columns.
        keys: of the images.
        patients: of the images.
        sources: of the images.
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
        """Every image's scores, for paired tests; what is unknown is null."""
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
        return {"labels": list(self.labels), "images": rows}


def predict(
    classifier: Classifier,
    data: Path,
    split: str = "test",
    labels: Sequence[str] = (),
    sources: Sequence[str] = (),
    learned: dict[str, list[str]] | None = None,
) -> Predictions:
    """Apply a classifier to the images of a split of which anything is known.

    Args:
        labels: what to measure; by default all that the classifier knows.
        sources: only images of these sources.
        learned: patients it was trained on, as `patients_of` gives them.

    Raises:
        UsageError: a label it does not know, or no image that says anything about the labels.
        MismatchError: an unfinished dataset, or an image of a patient that it was trained on.
    """
    wanted = tuple(labels) or classifier.labels
    columns = [classifier.index(label) for label in wanted]
    images = gather_multilabel(Source(data), split, wanted, classifier.config.get("negatives", "normal"), sources)
    if split != "train":
        refuse_seen(images, (learned or {}).get("train", []))
    parts = [
        classifier([image.image() for image in images[start : start + CHUNK]]) for start in range(0, len(images), CHUNK)
    ]
    return Predictions(
        wanted,
        [image.row["key"] for image in images],
        [image.patient for image in images],
        [str(image.row.get("source", "")) for image in images],
        table_of(images),
        np.concatenate(parts)[:, columns],
    )


def patients_of(folder: Path) -> dict[str, list[str]]:
    """The patients a trained classifier has seen: ``{"train": [...], "val": [...]}``."""
    return patients_seen(locate(folder, WHAT, COMMAND))


def figures_of(
    labels: Sequence[str], truth: np.ndarray, scores: np.ndarray, patients: Sequence[str], sources: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """AUROC per label with a 95 % interval by patient, over all images and over pairs of the same source.

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


def scores_of(
    network: nn.Module, images: Sequence[MultiLabelImage], size: int, device: torch.device, precision: str
) -> np.ndarray:
    """(N, K) probabilities of a network in training; it is left in eval mode."""
    network.eval()
    parts = []
    for start in range(0, len(images), CHUNK):  # so that images of a large set are not all in memory
        pixels = [image.image() for image in images[start : start + CHUNK]]
        parts.append(probabilities(network, pixels, size, device, precision))
    return np.concatenate(parts)


def mean_auroc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Mean over the labels of which the images show both kinds; 0.5 without any.

    Args:
        truth: (N, K) of 1, 0 and NaN.
        scores: (N, K).
    """
    found = [auroc(np.stack([s, t], axis=1)[~np.isnan(t)]) for s, t in zip(scores.T, truth.T, strict=True)]
    known = [value for value in found if value == value]
    return float(np.mean(known)) if known else 0.5


def threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    """The probability from which an image counts as positive: where sensitivity and specificity are highest together
    (Youden 1950); 0.5 where one kind is missing."""
    known = ~np.isnan(truth)
    score, label = scores[known], truth[known] == 1
    if label.all() or not label.any():
        return 0.5
    order = np.argsort(-score, kind="stable")
    gain = np.cumsum(label[order]) / label.sum() - np.cumsum(~label[order]) / (~label).sum()
    best = int(gain.argmax())
    below = score[order][min(best + 1, len(order) - 1)]
    return float((score[order][best] + below) / 2)
