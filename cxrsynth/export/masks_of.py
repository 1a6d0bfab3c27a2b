"""Masks of annotated DICOM images, given back as DICOM segmentations that refer to the images they were drawn on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cxrsynth.data.dicom import read_dataset
from cxrsynth.data.dicom_fields import turn_of
from cxrsynth.data.dicom_seg import segmentation
from cxrsynth.errors import UsageError
from cxrsynth.ingest.radiograph import Polarity, dicom_images, read_radiograph
from cxrsynth.pages.summary import summarise
from cxrsynth.store import write_atomic


def write_segmentations(images: Path, labelled: Path, out: Path, polarity: Polarity = "auto") -> int:
    """Write ``KEY.seg.dcm`` for every DICOM image that has masks.

    Args:
        images: the DICOM file, or the folder of them, that was annotated.
        labelled: the dataset that came of it.
        polarity: as it was annotated with.

    Returns:
        How many were written.

    Raises:
        UsageError: there is no DICOM image.
        MissingError: the extra ``dicom`` is not installed.
    """
    sources = {image.key: image.path for image in dicom_images(images)}
    if not sources:
        raise UsageError(f"{images} holds no DICOM image", "leave out --to dicom, or: cxrsynth export OUT --to dicom")
    summary = summarise(labelled)
    names = {label.id: label.name for label in summary.labels}
    findings = {item["name"] for item in summary.recipe.get("classes", []) if item.get("overlap")}
    count = 0
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
        if regions:
            write_atomic(out / f"{row['key']}.seg.dcm", segmentation(dataset, regions, findings, "cxrsynth annotate"))
            count += 1
    return count
