"""``cxrsynth train-mask-head``: masks from the model's features and a few human labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrsynth.cli.answer import answer
from cxrsynth.cli.options import Base, Device, Json, Lora, Model, Offline, Threads
from cxrsynth.cli.train import configured, progress


def train_mask_head(
    data: Annotated[
        Path, typer.Argument(help="Images with reference masks, as ingest wrote them.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Weights file to write.")] = Path("mask_head.safetensors"),
    images: Annotated[
        int | None, typer.Option(min=1, help="How many labelled images to fit on; all by default.", show_default=False)
    ] = None,
    model: Model = "mini",
    base: Base = None,
    lora: Lora = None,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a value: --set updates=800.")] = None,
    as_json: Json = False,
) -> None:
    """Fit the small head behind the refiner mask_head on reference masks; running it again goes on where it stopped.

    Only images of split train are read. The file says on how many images it was fitted, and for which model. Example:

        cxrsynth train-mask-head data/images --images 32 -o mask_head.safetensors

    Then name the file in a recipe:  masks: {refine: [{use: mask_head, head: mask_head.safetensors}]}
    """
    from cxrsynth.factory.plan import find_weights
    from cxrsynth.train.tasks.mask_head.config import MaskHeadConfig

    config = configured(MaskHeadConfig, set_)
    found = find_weights(model, base, lora, offline)
    from cxrsynth.train.tasks.mask_head.training import train_mask_head as run

    with progress("train-mask-head") as on_step:
        result = run(data, out, found, config, images, device, on_step)
    answer(result, as_json)
