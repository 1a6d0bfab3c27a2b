"""``cxrsynth train-decoder``: masks from the model's features and a few human labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cxrsynth.cli.train import configured, progress


def train_decoder(
    data: Annotated[Path, typer.Argument(help="Films with human masks, as ingest wrote them.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Weights file to write.")] = Path("decoder.safetensors"),
    films: Annotated[
        int | None, typer.Option(min=1, help="How many labelled films to fit on; all by default.", show_default=False)
    ] = None,
    model: Annotated[str, typer.Option(envvar="CXRSYNTH_MODEL", help="mini, a folder, or a hub id.")] = "mini",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.", envvar="CXRSYNTH_DEVICE")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the network.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a value: --set steps=800.")] = None,
) -> None:
    """Fit the small head behind the refiner decoder on human masks; typing it again goes on where it stopped.

    Only films of split train are read. The file says on how many films it was fitted, and for which model. Example:

        cxrsynth train-decoder data/films --films 32 -o decoder.safetensors

    Then name the file in a recipe:  masks: {refine: [{use: decoder, head: decoder.safetensors}]}
    """
    from cxrsynth import weights
    from cxrsynth.train.tasks.mask_head.config import DecoderConfig

    config = configured(DecoderConfig, set_)
    found = weights.resolve(model, offline=offline)
    from cxrsynth.train.tasks.mask_head.training import train_decoder as run

    with progress("train-decoder") as on_step:
        result = run(data, out, found, config, films, device, on_step)
    typer.echo(json.dumps(result, indent=2))
