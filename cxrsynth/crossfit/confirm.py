"""Leave out synthetic images whose findings a classifier of another fold does not confirm.

Real images are divided into folds by patient; a classifier learns from the others. An image whose text came from a
patient (columns ``source`` and ``patient`` of a CSV of prompts) is shown to the classifier that has not seen that
patient, so that it cannot know the image by heart; any other image to one that its key chooses. Without real images the
dataset is cross-fitted on itself, as `cxrsynth.crossfit.prune` does with masks.

A classifier that learned from the same real images is no independent reader: what it confirms may be its own habit. The
images that a comparison is measured on must be none of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import Field, field_validator

from cxrsynth.crossfit.folds import Folds, Steps, check_folds, others
from cxrsynth.data.documents import read_json
from cxrsynth.data.labelled import ALL, Source
from cxrsynth.data.multilabel import MultiLabelImage, gather_multilabel
from cxrsynth.data.patients import patient_id
from cxrsynth.device import resolve
from cxrsynth.domain.lexicon import TRAITS
from cxrsynth.encoding import dumps
from cxrsynth.factory.derived import Derived, scored
from cxrsynth.files import write_atomic
from cxrsynth.lock import writing
from cxrsynth.nets.classifier import Classifier, load
from cxrsynth.recipe.part import Part
from cxrsynth.records import Row
from cxrsynth.store import Store
from cxrsynth.train.curves import Progress
from cxrsynth.train.loop_config import FREE
from cxrsynth.train.tasks.classify.config import ClassifyConfig
from cxrsynth.train.tasks.classify.training import train_classifier

CHUNK = 256
Probabilities = dict[str, list[float]]


class ConfirmConfig(Part):
    """Which findings have to be confirmed, and by what."""

    folds: int = Field(3, ge=2, le=20)
    seed: int = Field(0, ge=0, description="of the folds")
    train: ClassifyConfig

    @field_validator("train")
    @classmethod
    def _named(cls, train: ClassifyConfig) -> ClassifyConfig:
        if not set(train.labels) - set(TRAITS):
            raise ValueError("name the findings that have to be confirmed, for example labels: [pneumonia, effusion]")
        return train

    @property
    def fixed(self) -> ClassifyConfig:
        """The training of a fold; its last average is taken. The thresholds are those of the validation images."""
        return self.train.model_copy(update={"look_every": self.train.updates, "patience": 0})

    @property
    def findings(self) -> tuple[str, ...]:
        """The labels that have to be confirmed; view, age and sex are learned at most."""
        return tuple(label for label in self.train.labels if label not in TRAITS)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one classifier says about the images of its fold.

    Attributes:
        thresholds: finding -> probability from which it counts as seen.
        probabilities: key -> probability of each finding, in the order of the configuration.
    """

    thresholds: Mapping[str, float]
    probabilities: Probabilities


def confirm(
    dataset: Path,
    out: Path,
    config: ConfirmConfig,
    real: Path | None = None,
    device: str = "auto",
    on_step: Progress | None = None,
) -> Derived:
    """Write the dataset without the images that are not confirmed.

    An image with findings is confirmed where each of them reaches its threshold, an image without any where none does.
    What nothing is said about stays. The probabilities stand in the scores ``probability.FINDING``. Calling it again
    goes on where it stopped, with the same result.

    Args:
        real: dataset whose train split the classifiers learn from; the dataset itself by default.

    Raises:
        UsageError: a label without images of both kinds, or too few patients for folds.
        MismatchError: an unfinished dataset, or ``out`` holds another one.
    """
    free = {"train": set(FREE) - {"updates"}}
    learned = real or dataset
    settings = config.model_dump(mode="json", exclude=free)
    derived = Derived.plan_of("confirm", dataset, out, settings, *([real] if real else []))
    images = gather_multilabel(Source(dataset), ALL, config.findings, config.train.negatives)
    train = [row for row in Store(learned).rows() if row.get("split") == "train"]
    division = Folds((patient_id(row) for row in train), config.folds, config.seed)
    check_folds(learned, division.places.values())
    folds = division.keys(train)
    places = {image.row["key"]: division.of(origin(image.row, real is None)) for image in images}
    used = sorted(set(places.values()))
    steps = Steps(len(used), config.train.updates, len(images), on_step)
    with writing(out):
        derived.claim()
        reasons: dict[str, str] = {}
        said: dict[str, dict[str, float | None]] = {}
        for place, fold in enumerate(used):
            classifier = fitted(learned, out / f"folds/{fold}", folds, fold, config, device, steps.training(place))
            mine = [image for image in images if places[image.row["key"]] == fold]
            reading = read(classifier, mine, config.findings, out / f"folds/{fold}/probabilities.json")
            for image in mine:
                key = image.row["key"]
                chances = reading.probabilities[key]
                named = zip(config.findings, chances, strict=True)
                said[key] = {f"probability.{name.replace(' ', '_')}": chance for name, chance in named}
                limits = [reading.thresholds[name] for name in config.findings]
                reason = unconfirmed(config.findings, image.truth, np.array(chances), np.array(limits))
                if reason:
                    reasons[key] = reason
        derived.write(reasons, lambda one: replace(one, row=scored(one.row, said.get(one.row["key"], {}))), steps.wrote)
    return derived


def origin(row: Row, own: bool) -> str:
    """The name that decides the fold of an image: of the patient whose text it was made from, where the row says so.

    Args:
        own: whether the classifiers learn from the dataset itself: then what counts is the image's own patient.
    """
    fields = row.get("fields") or {}
    if own or not fields.get("patient"):
        return patient_id(row)
    return patient_id({"key": row["key"], "source": fields.get("source", ""), "patient": str(fields["patient"])})


def fitted(
    learned: Path, run: Path, folds: Mapping[str, int], fold: int, config: ConfirmConfig, device: str, on_step: Progress
) -> Classifier:
    """The classifier that learned from the other folds; one that is there is not trained again."""
    if not (run / "model/config.json").exists():
        train_classifier([others(learned, folds, fold)], run, config.fixed, device=device, on_step=on_step)
        (run / "classify.ckpt").unlink(missing_ok=True)
    return load(run, resolve(device))


def read(classifier: Classifier, images: Sequence[MultiLabelImage], findings: Sequence[str], path: Path) -> Reading:
    """Probabilities of the findings; kept in a file, so that a killed command goes on with the same."""
    thresholds = {name: float(classifier.config["thresholds"].get(name, 0.5)) for name in findings}
    if path.exists():
        return Reading(thresholds, read_json(path))
    columns = [classifier.index(name) for name in findings]
    found: Probabilities = {}
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK]
        scores = classifier([image.image() for image in part])[:, columns]
        found |= {image.row["key"]: [float(value) for value in row] for image, row in zip(part, scores, strict=True)}
    write_atomic(path, dumps(found))
    return Reading(thresholds, found)


def unconfirmed(findings: Sequence[str], truth: np.ndarray, chances: np.ndarray, limits: np.ndarray) -> str:
    """Why an image is left out, empty where it stays.

    Args:
        truth: (K,) 1 present, 0 absent, NaN unknown.
        chances: (K,) probabilities.
        limits: (K,) thresholds.
    """
    over = chances - limits
    present, absent = truth == 1, truth == 0
    if present.any():
        weakest = int(np.argmin(np.where(present, over, np.inf)))
        return f"unconfirmed.{findings[weakest].replace(' ', '_')}" if over[weakest] < 0 else ""
    return "unconfirmed.no_finding" if (over[absent] >= 0).any() else ""
