"""``cxrsynth train-anatomy``, ``control`` and ``evaluate control``: this anatomy, and that finding there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cxrsynth.cli.train import overrides, progress

Device = Annotated[str, typer.Option(help="auto, cpu or cuda.", envvar="CXRSYNTH_DEVICE")]


def train_anatomy(
    data: Annotated[Path, typer.Argument(help="Dataset with masks drawn by people.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Weights file to write.")] = Path("anatomy.safetensors"),
    weights: Annotated[
        Path | None,
        typer.Option("--weights", "-w", help="Run folder of train-seg: also films that it labels.", show_default=False),
    ] = None,
    device: Device = "auto",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a value: --set steps=800.")] = None,
) -> None:
    """Train the network that turns a label map into a pseudo-radiograph; typing it again goes on where it stopped.

    It works in pixels, so one file serves every diffusion model. A sheet with held-out films lies beside it. Example:

        cxrsynth train-anatomy data/films --weights runs/segmenter -o anatomy.safetensors

    Then name the file in a recipe:  control: {anatomy: {weights: anatomy.safetensors}}
    """
    from pydantic import ValidationError

    from cxrsynth.console import console
    from cxrsynth.errors import UsageError
    from cxrsynth.train.anatomy_config import AnatomyConfig

    try:
        config = AnatomyConfig.model_validate(overrides(set_))
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(AnatomyConfig.model_fields)
        raise UsageError(f"--set {'.'.join(map(str, first['loc']))}: {first['msg']}", f"known: {known}") from None
    from cxrsynth.train.anatomy import train_anatomy as run

    with progress("train-anatomy") as on_step:
        result = run(data, out, config, weights, device, on_step)
    console.print(f"open {out.with_suffix('.png')}")
    typer.echo(json.dumps(result, indent=2))
