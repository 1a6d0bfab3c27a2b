"""``cxrsynth train-anatomy`` and ``train-pathology``: the small networks that control needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrsynth.cli.answer import answer
from cxrsynth.cli.options import Base, Device, Json, Lora, Model, Offline, Threads
from cxrsynth.cli.train import configured, progress


def train_anatomy(
    data: Annotated[Path, typer.Argument(help="Dataset with reference masks.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Weights file to write.")] = Path("anatomy.safetensors"),
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights", "-w", help="Run folder of train-seg: also images that it labels.", show_default=False
        ),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a value: --set updates=800.")] = None,
    as_json: Json = False,
) -> None:
    """Train the network that turns a label map into a pseudo-radiograph; running it again goes on where it stopped.

    It works in pixels, so one file serves every diffusion model. A sheet with held-out images lies beside it. Example:

        cxrsynth train-anatomy data/images --weights runs/segmenter -o anatomy.safetensors

    Then name the file in a recipe:  control: {anatomy: {network: anatomy.safetensors}}
    """
    from cxrsynth.console import console
    from cxrsynth.train.tasks.anatomy.config import AnatomyConfig

    config = configured(AnatomyConfig, set_)
    from cxrsynth.train.tasks.anatomy.training import train_anatomy as run

    with progress("train-anatomy") as on_step:
        result = run(data, out, config, weights, device, on_step)
    console.print(f"open {out.with_suffix('.png')}")
    answer(result, as_json)


def train_pathology(
    data: Annotated[Path, typer.Argument(help="Ingested images with findings in words.", show_default=False)],
    weights: Annotated[
        Path,
        typer.Option("--weights", "-w", help="Run folder of train-seg that finds the zones.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Weights file to write.")] = Path("pathology.safetensors"),
    model: Model = "mini",
    base: Base = None,
    lora: Lora = None,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a value: --set updates=800.")] = None,
    as_json: Json = False,
) -> None:
    """Teach a model what findings look like in a place, as a small LoRA; running it again goes on where it stopped.

    Zones of images with a finding count as its place where they are brighter than in normal images of the same source.
    Only images of split train are read, and no children. Example:

        cxrsynth train-pathology data/images --weights runs/segmenter -o pathology.safetensors

    Then name the file in a recipe:  control: {inpaint: {adapter: pathology.safetensors}}
    """
    from cxrsynth.factory.plan import find_weights
    from cxrsynth.train.tasks.pathology.config import PathologyConfig

    config = configured(PathologyConfig, set_)
    found = find_weights(model, base, lora, offline)
    from cxrsynth.train.tasks.pathology.training import train_pathology as run

    with progress("train-pathology") as on_step:
        result = run(data, out, found, config, weights, device, on_step)
    answer(result, as_json)
