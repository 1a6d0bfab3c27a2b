"""``cxrsynth evaluate agreement``: labels of synthetic images against a network that learned from real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrsynth.cli.answer import answer
from cxrsynth.cli.options import Device, Json, Offline, Threads
from cxrsynth.cli.train import progress


def evaluate_agreement(
    generated: Annotated[Path, typer.Argument(help="What generate wrote, with stored maps.", show_default=False)],
    weights: Annotated[
        Path, typer.Option("--weights", "-w", help="Network that train-seg made from real images.", show_default=False)
    ],
    chains: Annotated[
        Path | None, typer.Option(help="YAML with chains to try on the same maps; the own labels only by default.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the dataset in the table; default: the folder's.")] = "",
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path("results"),
    as_json: Json = False,
) -> None:
    """Do the labels of synthetic images say what a network trained on real images sees in the images?

    Dice per chain, and for every curation score its rank correlation with that Dice. Draw without checks, so that bad
    images are in it. Example:

        cxrsynth generate --prompts recipes/lung.yaml --count 96 -o out/unchecked --set curate.checks=[]
        cxrsynth evaluate agreement out/unchecked --weights runs/segmenter
    """
    from cxrsynth.device import resolve
    from cxrsynth.evaluate import agreement as run
    from cxrsynth.evaluate.chains import load_chains
    from cxrsynth.evaluate.results import write
    from cxrsynth.nets.segmenter import load
    from cxrsynth.recipe import find

    segmenter = load(weights, resolve(device))
    tried = load_chains(find(chains), generated) if chains else {}
    with progress("evaluate agreement") as on_image:
        found = run.agreement(generated, segmenter, tried, on_image)
    made = run.records(found, name or generated.resolve().name)
    write(out / "masks.json", made)
    answer(run.table(made), as_json)
