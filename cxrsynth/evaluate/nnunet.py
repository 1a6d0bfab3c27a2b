"""Folders of masks as nnU-Net v2 writes them: case names, and what the labels mean.

Format: documentation/dataset_format.md and region_based_training.md of https://github.com/MIC-DKFZ/nnUNet. A prediction
is ``CASE.png``; an image is ``CASE_0000.png``. ``nnUNetv2_predict`` puts a copy of ``dataset.json`` beside them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from cxrsynth.errors import UsageError

CHANNEL = re.compile(r"_\d{4}$")


def case_names(stems: Sequence[str]) -> list[str]:
    """The cases behind file names: ``_0000`` at the end is the number of a channel, if every name ends like that.

    Raises:
        UsageError: several channels of one case.
    """
    if not stems or not all(CHANNEL.search(stem) for stem in stems):
        return list(stems)
    cases = [CHANNEL.sub("", stem) for stem in stems]
    if len(set(cases)) < len(cases):
        raise UsageError("the folder holds several channels of a case", "name the folder of the masks, not of images")
    return cases


def label_names(folder: Path) -> dict[str, int]:
    """Class name -> value in the masks, from the ``dataset.json`` in the folder or above it; empty without one.

    Where classes are regions, a prediction shows each as its number in ``regions_class_order``.

    Raises:
        UsageError: a ``dataset.json`` that is damaged.
    """
    path = next(
        (place / "dataset.json" for place in (folder, folder.parent) if (place / "dataset.json").is_file()), None
    )
    if path is None:
        return {}
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        names = [name for name in body["labels"] if name not in ("background", "ignore")]
        values = [body["labels"][name] for name in names]
        if any(isinstance(value, list) for value in values):
            values = body["regions_class_order"]
        return {name: int(value) for name, value in zip(names, values, strict=True)}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{path} does not say what the labels mean: {error}", "expected nnU-Net's dataset.json"
        ) from None


def check_painted(folder: Path, values: set[int], classes: dict[str, int]) -> None:
    """Refuse masks of a training set whose labels stand for several classes at once.

    Raises:
        UsageError: naming the labels.
    """
    strange = sorted(values - {0, 255} - set(classes.values()))
    if strange:
        raise UsageError(
            f"{folder} has labels {strange[:5]} that stand for several classes at once",
            "compare with the dataset that was exported, not with its labelsTr or labelsTs",
        )
