"""``cxrsynth subset``: a part of a dataset, for learning curves and label-efficiency experiments."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from cxrsynth.cli.answer import answer
from cxrsynth.cli.options import Json
from cxrsynth.console import meter


def subset(
    dataset: Annotated[Path, typer.Argument(help="Dataset to take a part of.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Dataset folder to write.", show_default=False)],
    split: Annotated[
        Literal["train", "val", "test", "all"], typer.Option("--split", help="Images of this split only.")
    ] = "all",
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Only images of this source. Repeatable.")
    ] = None,
    masks: Annotated[
        int | None,
        typer.Option(
            "--masks",
            min=0,
            help="Keep the masks of so many patients of split train; all other masks are left out. 16 are among 32.",
        ),
    ] = None,
    labelled: Annotated[bool, typer.Option("--labelled", help="Leave out images without a mask.")] = False,
    as_json: Json = False,
) -> None:
    """Take a part of a dataset: fewer images, or the same images with the masks of a few patients. Run it again to
    resume.

    What is left out cannot be learned from by accident. Example, for a model that shall know the masks of 16 patients:

        cxrsynth subset data/train256 -o data/masks-16 --masks 16
    """
    from cxrsynth.factory.subset import Part, take_part

    part = Part(split, tuple(source or ()), masks, labelled)
    with meter(1, f"subset {dataset.name}") as bar:
        taken = take_part(dataset, out, part, lambda done, total: bar.set(done / total))
    answer({**asdict(taken), "dataset": str(out)}, as_json)
