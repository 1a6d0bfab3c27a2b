"""Does an image follow its prompt? Measured by networks trained on real images, with real images beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cxrsynth.domain.anatomy import CLASSES, cardiothoracic
from cxrsynth.domain.lexicon import DENIED, affirmed, found, words_on_findings
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.classification import Predictions, predict
from cxrsynth.evaluate.images import Group
from cxrsynth.evaluate.results import Record, record
from cxrsynth.nets.classifier import Classifier
from cxrsynth.nets.segmenter import Segmenter
from cxrsynth.records import Row
from cxrsynth.statistics import auroc_interval, bootstrap
from cxrsynth.store import Store

ENLARGED = "cardiomegaly"


def alignment(
    classifier: Classifier,
    made: Path,
    name: str,
    real: Path | None = None,
    split: str = "test",
    learned: dict[str, list[str]] | None = None,
) -> list[Record]:
    """Classifier against prompt: AUROC and agreement of every label that some prompts ask for and others do not.

    The same classifier's figures on held-out real images are arm ``real``: what it can see at all.
    """
    try:
        generated = predict(classifier, made, "all")
    except UsageError:
        return []  # no prompt asks for anything that the classifier knows
    records = both_figures(generated, classifier, name, made.name)
    asked = {item["class"] for item in records}
    if real is not None and asked:
        seen = predict(classifier, real, split, learned=learned)
        found_real = both_figures(seen, classifier, "real", f"{real.name}:{split}")
        records += [item for item in found_real if item["class"] in asked]
    return records


def both_figures(predicted: Predictions, classifier: Classifier, arm: str, dataset: str) -> list[Record]:
    """AUROC and agreement of every label of which the images show both kinds."""
    ranked = [item for item in predicted.records(arm, dataset, "images") if item["metric"] == "auroc"]
    return ranked + agreement(predicted, classifier, arm, dataset)


def agreement(predicted: Predictions, classifier: Classifier, arm: str, dataset: str) -> list[Record]:
    """How often the classifier agrees, both kinds counting the same, at the threshold chosen on validation images."""
    records = []
    for k, label in enumerate(predicted.labels):
        known = ~np.isnan(predicted.truth[:, k])
        values = np.stack(
            [predicted.scores[known, k] > classifier.config["thresholds"].get(label, 0.5), predicted.truth[known, k]],
            axis=1,
        )
        if len(np.unique(values[:, 1])) == 2:
            patients = [name for name, is_known in zip(predicted.patients, known, strict=True) if is_known]
            figures = bootstrap(values, patients, balanced_accuracy)
            records.append(record("images", arm, dataset, "agreement", figures, len(values), label))
    return records


def balanced_accuracy(values: np.ndarray) -> float:
    """(N, 2) answer and truth, 0 or 1 -> mean of sensitivity and specificity; NaN where one kind is missing."""
    right, ones = values[:, 0] == values[:, 1], values[:, 1] == 1
    if ones.all() or not ones.any():
        return float("nan")
    return float((right[ones].mean() + right[~ones].mean()) / 2)


def heart_size_by_labels(made: Path, arm: str) -> list[Record]:
    """`heart_size` by the images' own labels, which come from the model's own attention: the milder evaluator."""
    store = Store(made)
    chosen = [row for row in store.rows() if row.get("mask") is not None]
    masks = [np.asarray(store.load_mask(row)) for row in chosen]
    return heart_size(chosen, masks, store.classes(), arm, made.name, "attention")


def heart_size_by_segmenter(part: Group, arm: str, segmenter: Segmenter, only_named: bool = False) -> list[Record]:
    """`heart_size` by a segmenter that has learned from real images.

    Args:
        only_named: leave out images that nobody called enlarged or normal: of a real image, silence says nothing.
    """
    ids = {name: i for i, name in enumerate(segmenter.classes, 1)}
    pairs = [
        (row, mask)
        for row, mask in zip(part.rows, part.masks(segmenter), strict=True)
        if says_heart_size(row) or not only_named
    ]
    return heart_size([row for row, _ in pairs], [mask for _, mask in pairs], ids, arm, part.name, "segmenter")


def heart_size(
    chosen: Sequence[Row],
    masks: Sequence[np.ndarray],
    ids: Mapping[str, int],
    arm: str,
    dataset: str,
    evaluator: str,
) -> list[Record]:
    """Cardiothoracic ratio of images said to show cardiomegaly, of those said to have a normal heart, of the others.

    Args:
        masks: (H, W) uint8 class ids each.
        ids: class name -> id.
        evaluator: whose masks they are; goes into the ``class`` of the records.
    """
    if not chosen or not set(CLASSES) <= set(ids):
        return []
    ratios = np.array([cardiothoracic(mask, ids) for mask in masks])
    large = np.array([found(words_on_findings(row), ENLARGED) for row in chosen], bool)
    normal = np.array([says_heart_size(row) for row in chosen], bool) & ~large
    usable = ~np.isnan(ratios)
    groups = [("cardiomegaly", large), ("normal_heart_size", normal), ("not_named", ~large & ~normal)]
    records = []
    for label, which in groups:
        part = ratios[which & usable]
        if len(part):
            klass = f"{label}_by_{evaluator}"
            records.append(record("images", arm, dataset, "ctr", bootstrap(part), len(part), klass))
    other = normal if (normal & usable).any() else ~large
    both = usable & (large | other)
    if (large & both).any() and (other & both).any():
        values = np.stack([ratios[both], large[both]], axis=1)
        figures = auroc_interval(values, [str(i) for i in range(len(values))])
        records.append(record("images", arm, dataset, "auroc", figures, len(values), f"heart_size_by_{evaluator}"))
    return records


def says_heart_size(row: Row) -> bool:
    """Whether an image or prompt calls the heart enlarged or normal."""
    text = words_on_findings(row)
    return found(text, ENLARGED) or any(affirmed(word, text) for word in DENIED[ENLARGED])
