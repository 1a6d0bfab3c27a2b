"""``cxrsynth export``: a dataset in the form that another tool reads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cxrsynth.cli.options import Json
from cxrsynth.cli.segment import split_names
from cxrsynth.cli.told import emit
from cxrsynth.console import console, meter


def export(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.", show_default=False)],
    to: Annotated[
        str, typer.Option("--to", help="Format: hf, nnunet, coco, yolo, webdataset, monai, dicom.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.", show_default=False)],
    classes: Annotated[str, typer.Option(help="Only these classes: right_lung,left_lung. All by default.")] = "",
    as_json: Json = False,
) -> None:
    """Write a dataset in another tool's format, with its splits, its licence and where it comes from.

    The folder appears when it is whole; run the command again to continue, or after the dataset has grown. Example:

        cxrsynth export out/lung --to coco -o out/lung-coco
    """
    from cxrsynth.export import export as run

    with meter(1, f"export {dataset.name}") as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.set(done)

        found = run(dataset, to, out, split_names(classes), advance)
    counted = ", ".join(f"{count} {name}" for name, count in found.images.items())
    console.print(f"{sum(found.images.values())} images ({counted}) in {out}", markup=False)
    for reason, count in found.left_out.items():
        console.print(f"{count} left out: {reason}", markup=False)
    if not found.written:
        console.print("nothing to do: it was there already")
    if as_json:
        emit({**asdict(found), "folder": str(found.folder)})
