"""Masks of annotated DICOM images, given back as DICOM segmentations that refer to the images they were drawn on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cxrsynth.data.dicom import read_dataset
from cxrsynth.data.dicom_fields import turn_of
from cxrsynth.data.dicom_seg import highdicom, segmentation
from cxrsynth.data.paths import refuse_overlap
from cxrsynth.errors import UsageError
from cxrsynth.files import write_atomic
from cxrsynth.ingest.radiograph import Polarity, dicom_images, read_radiograph
from cxrsynth.pages.summary import summarise
from cxrsynth.records import Row


def check(images: Path) -> None:
    """Whether segmentations can be written for what is to be annotated; asked before the work begins.

    Raises:
        UsageError: there is no DICOM image.
        MissingError: the extra ``dicom`` is not installed.
    """
    highdicom()
    if not dicom_images(images):
        raise UsageError(
            f"{images} holds no DICOM image", "leave out --to dicom; later: cxrsynth export OUT --to dicom -o FOLDER"
        )


def write_segmentations(
    images: Path, labelled: Path, out: Path, polarity: Polarity = "auto", made_by: str = "cxrsynth annotate"
) -> tuple[int, list[Row]]:
    """Write ``KEY.seg.dcm`` for every DICOM image that has masks.

    Args:
        images: the DICOM file, or the folder of them, that was annotated.
        labelled: the dataset that came of it.
        polarity: as it was annotated with.
        made_by: what drew the masks, as the segmentation names it.

    Returns:
        How many were written, and a row for every image that no segmentation can be written for, with the reason.

    Raises:
        UsageError: there is no DICOM image, or ``out`` lies among them.
        MissingError: the extra ``dicom`` is not installed.
    """
    refuse_overlap(images, out)
    check(images)
    sources = {image.key: image.path for image in dicom_images(images)}
    summary = summarise(labelled)
    names = {label.id: label.name for label in summary.labels}
    findings = {item["name"] for item in summary.recipe.get("classes", []) if item.get("overlap")}
    count = 0
    refused: list[Row] = []
    for row in summary.rows:
        if row["key"] not in sources or not row.get("mask"):
            continue
        path = sources[row["key"]]
        read = read_radiograph(path, polarity)
        dataset = read_dataset(path)
        lying = turn_of(dataset)
        # First what was seen in the pixels is undone, then what the header asked for.
        regions = {
            names[number]: np.ascontiguousarray(lying.back(read.turn.back(region)))
            for number, region in summary.regions(row).items()
        }
        if not regions:
            refused.append({"key": row["key"], "reason": "no class was found in it"})
            continue
        try:
            masks = segmentation(dataset, regions, findings, made_by)
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # an attribute that highdicom cannot read
            refused.append({"key": row["key"], "reason": f"its attributes are not valid: {type(error).__name__}"})
            continue
        write_atomic(out / f"{row['key']}.seg.dcm", masks)
        count += 1
    return count, refused
