"""Noise learning by cross-validation: leave out the images of which label and network disagree most.

As DiffuMask does it (Wu et al., ICCV 2023, section 3.3): a dataset is divided into folds, a segmenter learns from the
others, and what it says about the images of a fold is set against their labels. Where an image does not show what its
label claims, networks that learned from other images do not find it there. No reference mask is needed. Networks of two
folds are not equally good, so the images of a fold are compared with each other only.

The same networks can relabel: ``relabel`` replaces each label by what the network says that did not learn from it, one
round of self-training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import Field

from cxrsynth.crossfit.folds import Folds, Steps, check_folds, others
from cxrsynth.data.documents import read_json
from cxrsynth.data.hardness import HARDNESS
from cxrsynth.data.labelled import ALL, LabelledImage, Source, choose_classes, gather, may_train
from cxrsynth.data.patients import patient_id
from cxrsynth.device import resolve
from cxrsynth.encoding import dumps
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.segmentation import dice_table
from cxrsynth.factory.apply.segment import clean
from cxrsynth.factory.derived import Derived, scored
from cxrsynth.files import write_atomic
from cxrsynth.lock import writing
from cxrsynth.nets.segmenter import Segmenter, load
from cxrsynth.pages.sheet import save
from cxrsynth.pages.worst import SHOWN, worst_sheet
from cxrsynth.recipe.part import Part
from cxrsynth.records import Entry
from cxrsynth.train.curves import Progress
from cxrsynth.train.loop_config import FREE
from cxrsynth.train.tasks.segment.config import SegmentConfig
from cxrsynth.train.tasks.segment.training import train_segmenter

CHUNK = 64
DISAGREEMENT = "disagreement"
# Image -> Dice of each class, None where neither label nor network has it.
Table = dict[str, list[float | None]]


class PruneConfig(Part):
    """How labels are put to the test, and what is left out."""

    folds: int = Field(3, ge=2, le=20)
    drop: float = Field(
        0.1, ge=0, lt=1, description="part of the images of each fold, those with the largest disagreement"
    )
    relabel: bool = Field(False, description="replace the labels by those of the networks")
    seed: int = Field(0, ge=0, description="of the folds")
    train: SegmentConfig = SegmentConfig()

    @property
    def fixed(self) -> SegmentConfig:
        """The training of a fold; its last average is taken, so that no image decides which weights are best."""
        return self.train.model_copy(update={"look_every": self.train.updates, "patience": 0})


def prune(
    dataset: Path, out: Path, config: PruneConfig, device: str = "auto", on_step: Progress | None = None
) -> tuple[Derived, float]:
    """Write the dataset without the images whose labels networks of other folds confirm least.

    Every image that is looked at gets the scores ``disagreement`` (1 - Dice, mean of the classes),
    ``disagreement.CLASS``, and ``hardness``, which is 1 where the disagreement is that of its fold on the average.
    Calling it again goes on where it stopped, with the same result.

    Args:
        out: the new dataset; its ``folds`` holds the networks, ``dropped.png`` shows the worst of what is left out.

    Returns:
        The dataset, and the mean Dice of labels and networks.

    Raises:
        UsageError: no labelled image, too few for folds, or classes that overlap and shall be relabelled.
        MismatchError: an unfinished dataset, or ``out`` holds another one.
    """
    free = {"train": set(FREE) - {"updates"}}
    derived = Derived.plan_of("prune", dataset, out, config.model_dump(mode="json", exclude=free))
    images = labelled(dataset, config)
    learned = [image.row for image in images if image.row.get("split") == "train"]
    division = Folds((patient_id(row) for row in learned), config.folds, config.seed)
    check_folds(dataset, division.places.values())
    folds = division.keys(image.row for image in images)
    used = sorted(set(folds.values()))
    steps = Steps(len(used), config.train.updates, len(images), on_step)
    with writing(out):
        derived.claim()
        table: Table = {}
        reasons: dict[str, str] = {}
        hardness: dict[str, float] = {}
        networks: dict[int, Segmenter] = {}
        for place, fold in enumerate(used):
            networks[fold] = network = fitted(
                dataset, out / f"folds/{fold}", folds, fold, config, device, steps.training(place)
            )
            mine = [image for image in images if folds[image.row["key"]] == fold]
            own = measured(network, mine, out / f"folds/{fold}/agreement.json")
            table |= own
            reasons |= worst(own, network.classes, config.drop)
            hardness |= relative(own)
        reasons = dict(sorted(reasons.items(), key=lambda item: (mean(table[item[0]]) or 0.0, item[0])))
        pictures(derived, images, folds, networks, table, reasons)

        def change(entry: Entry) -> Entry:
            key = entry.row["key"]
            if key not in table:
                return entry
            network = networks[folds[key]]
            told = replace(entry, row=scored(entry.row, scores(table[key], network.classes, hardness.get(key))))
            return relabelled(told, network, derived, config) if config.relabel else told

        derived.write(reasons, change, steps.wrote)
    known = [value for row in table.values() for value in row if value is not None]
    return derived, float(np.mean(known)) if known else float("nan")


def labelled(dataset: Path, config: PruneConfig) -> list[LabelledImage]:
    """The images that are looked at, of all splits.

    Raises:
        UsageError: there is none, or classes overlap and shall be relabelled.
    """
    classes = choose_classes([dataset], config.train.classes)
    images = gather(Source(dataset), ALL, classes, may_train(config.train.benchmark))
    if config.relabel and any(image.row.get("layers") for image in images):
        raise UsageError(
            f"classes of {dataset} overlap, and a network gives each pixel one class", "leave out --relabel"
        )
    return images


def fitted(
    dataset: Path, run: Path, folds: Mapping[str, int], fold: int, config: PruneConfig, device: str, on_step: Progress
) -> Segmenter:
    """The network that learned from the other folds; one that is there is not trained again."""
    if not (run / "model/config.json").exists():
        train_segmenter([others(dataset, folds, fold)], run, config.fixed, device=device, on_step=on_step)
        (run / "segment.ckpt").unlink(missing_ok=True)
    return load(run, resolve(device))


def measured(network: Segmenter, images: Sequence[LabelledImage], path: Path) -> Table:
    """Dice of the network's masks and the labels; kept in a file, so that a killed command goes on with the same."""
    if path.exists():
        found: Table = read_json(path)
        return found
    table: Table = {}
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK]
        masks = network([image.image() for image in part])
        dice = dice_table([image.mask() for image in part], masks, len(network.classes))
        for image, row in zip(part, dice, strict=True):
            table[image.row["key"]] = [None if np.isnan(value) else float(value) for value in row]
    write_atomic(path, dumps(table))
    return table


def mean(row: Sequence[float | None]) -> float | None:
    """The mean of what is known."""
    known = [value for value in row if value is not None]
    return float(np.mean(known)) if known else None


def worst(table: Table, classes: Sequence[str], drop: float) -> dict[str, str]:
    """Key -> reason of the images that are left out: those with the smallest mean Dice; ties go by key."""
    known = {key: value for key, row in table.items() if (value := mean(row)) is not None}
    order = sorted(known, key=lambda key: (known[key], key))
    reasons = {}
    for key in order[: int(drop * len(order))]:
        values = [2.0 if value is None else value for value in table[key]]
        reasons[key] = f"disagreement.{classes[int(np.argmin(values))]}"
    return reasons


def relative(table: Table) -> dict[str, float]:
    """Key -> disagreement, as a multiple of the average over the images of a fold; 1 for all where there is none."""
    apart = {key: 1 - value for key, row in table.items() if (value := mean(row)) is not None}
    average = float(np.mean(list(apart.values()))) if apart else 0.0
    return {key: value / average if average else 1.0 for key, value in apart.items()}


def scores(dice: Sequence[float | None], classes: Sequence[str], hardness: float | None) -> dict[str, float | None]:
    """What the row of an image says of it."""
    whole = {DISAGREEMENT: mean(dice), **dict(zip([f"{DISAGREEMENT}.{name}" for name in classes], dice, strict=True))}
    return {**{name: None if value is None else 1 - value for name, value in whole.items()}, HARDNESS: hardness}


def relabelled(entry: Entry, network: Segmenter, derived: Derived, config: PruneConfig) -> Entry:
    """A sample with the mask of the network of its fold, cleaned as masks of `cxrsynth segment` are."""
    mask = clean(network([entry.image])[0], entry.image, network.classes)
    declared, ids = derived.source.classes(), np.zeros(256, np.uint8)
    for number, name in enumerate(network.classes, start=1):
        ids[number] = declared[name]
    use = "benchmark" if config.train.benchmark else entry.row.get("mask_use", "train")
    told = {"mask_classes": list(network.classes), "mask_definition": "network", "mask_use": use}
    return replace(entry, row={**entry.row, **told, "mask_by": network.config["sha256"][:12]}, mask=ids[mask])


def pictures(
    derived: Derived,
    images: Sequence[LabelledImage],
    folds: Mapping[str, int],
    networks: Mapping[int, Segmenter],
    table: Table,
    reasons: Mapping[str, str],
) -> None:
    """``dropped.png``: the worst of what is left out, labels beside what the networks say."""
    by_key = {image.row["key"]: image for image in images}
    shown = [by_key[key] for key in list(reasons)[:SHOWN]]
    if not shown:
        return
    keys = [image.row["key"] for image in shown]
    pixels = [image.image() for image in shown]
    masks = [networks[folds[key]]([image])[0] for key, image in zip(keys, pixels, strict=True)]
    dice = np.array([[np.nan if value is None else value for value in table[key]] for key in keys])
    classes = next(iter(networks.values())).classes
    title = f"left out: the worst of {len(reasons)} images"
    sheet = worst_sheet(pixels, [image.mask() for image in shown], masks, keys, dice, classes, title)
    save(sheet, derived.out.root / "dropped.png")
