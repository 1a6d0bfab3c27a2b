"""``cxrsynth train-affinity``, ``annotate`` and ``evaluate masks``: from attention to masks worth training on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cxrsynth.cli.train import overrides, progress

Device = Annotated[str, typer.Option(help="auto, cpu or cuda.", envvar="CXRSYNTH_DEVICE")]


def train_affinity(
    pilot: Annotated[
        Path, typer.Argument(help="Dataset with stored maps, from generate or annotate.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Weights file to write.")] = Path("affinity.safetensors"),
    device: Device = "auto",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a value: --set steps=800.")] = None,
) -> None:
    """Train the network behind the refiners affinity, sequential and cross; typing it again goes on where it stopped.

    It learns from what attention is sure of, never from human masks. Example:

        cxrsynth train-affinity out/pilot -o affinity.safetensors

    Then name the file in a recipe:  masks: {refine: [{use: affinity, weights: affinity.safetensors}]}
    """
    from pydantic import ValidationError

    from cxrsynth.errors import UsageError
    from cxrsynth.train.affinity_config import AffinityConfig

    try:
        config = AffinityConfig.model_validate(overrides(set_))
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(AffinityConfig.model_fields)
        raise UsageError(f"--set {'.'.join(map(str, first['loc']))}: {first['msg']}", f"known: {known}") from None
    from cxrsynth.train.affinity import train_affinity as run

    with progress("train-affinity") as on_step:
        result = run(pilot, out, config, device, on_step)
    typer.echo(json.dumps(result, indent=2))
