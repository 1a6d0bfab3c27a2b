"""``--to dicom`` of annotate and segment: masks go back as DICOM segmentations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrsynth.cli.answer import tell_refused
from cxrsynth.console import console
from cxrsynth.errors import UsageError
from cxrsynth.ingest.radiograph import Polarity

To = Annotated[
    str | None,
    typer.Option(
        "--to",
        help="'dicom': also write a DICOM SEG for every DICOM image, into OUT-dicom.",
        show_default=False,
    ),
]


def ready(to: str | None, images: Path) -> None:
    """Whether masks can be given back in this form; asked before the work begins.

    Raises:
        UsageError: another form, or no DICOM image.
        MissingError: the extra ``dicom`` is not installed.
    """
    if to is None:
        return
    if to != "dicom":
        raise UsageError(f"masks do not go back as '{to}'", "--to dicom, or: cxrsynth export OUT --to coco -o FOLDER")
    from cxrsynth.export.masks_of import check

    check(images)


def give_back(to: str | None, images: Path, out: Path, polarity: Polarity, made_by: str) -> None:
    """Write the segmentations of what was labelled into ``out``, beside it."""
    if to is None:
        return
    from cxrsynth.export.masks_of import write_segmentations

    beside = out.with_name(f"{out.name}-dicom")
    count, without = write_segmentations(images, out, beside, polarity, made_by)
    tell_refused((row["key"], f"no segmentation, {row['reason']}") for row in without)
    console.print(f"{count} segmentations in {beside}; like their images, they name the patient", highlight=False)
