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


def control(
    source: Annotated[
        Path, typer.Argument(help="A label map (PNG of class ids) or a film (any gray picture).", show_default=False)
    ],
    finding: Annotated[
        list[str] | None, typer.Option("--finding", "-f", help="What to put in, as the prompt names it; repeatable.")
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            "--region",
            "-r",
            help="Where, one for each finding: words ('left lower zone', 'right costophrenic angle'), a box "
            "left,top,right,bottom in 0..1, or a PNG of the film's size.",
        ),
    ] = None,
    severity: Annotated[float, typer.Option(min=0.01, max=1, help="1 full; less is fainter.")] = 1.0,
    whole: Annotated[bool, typer.Option("--whole", help="Fill the region; otherwise a ragged patch in it.")] = False,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Label map of a film; otherwise the model's attention finds the anatomy.", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG to write; the strip lies beside it.")] = Path(
        "control.png"
    ),
    prompt: Annotated[
        str, typer.Option(help="What a film made of a label map shows.")
    ] = "Frontal chest X-ray, PA view.",
    recipe: Annotated[Path, typer.Option("--recipe", "-p", help="Its sampler and control settings are used.")] = Path(
        "recipes/control.yaml"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    model: Annotated[str | None, typer.Option(envvar="CXRSYNTH_MODEL", help="mini, a folder, or a hub id.")] = None,
    device: Device = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the network.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", envvar="CXRSYNTH_SET", help="Change a value: --set control.anatomy.until=0.8."),
    ] = None,
) -> None:
    """One film: a label map in, a film out; a film and a region in, the film with a finding there out.

    Examples:

        cxrsynth control mask.png -o film.png

        cxrsynth control film.png --finding pneumonia --region "left lower zone" -o sick.png
    """
    from cxrsynth import weights
    from cxrsynth.console import console
    from cxrsynth.errors import UsageError
    from cxrsynth.recipe import load

    if not source.is_file():
        raise UsageError(f"{source} does not exist", "give a label map or a film")
    findings, places = finding or [], region or []
    if len(findings) != len(places):
        raise UsageError(f"{len(findings)} findings and {len(places)} regions", "give one --region for each --finding")
    loaded = load(recipe, {"model": model}, set_)
    found = weights.resolve(loaded.model, offline=offline)
    from cxrsynth import edit
    from cxrsynth.sheet import save
    from cxrsynth.store import png, write_atomic

    shape = "whole" if whole else "blob"
    wishes = [edit.Wish(what, edit.box(where), severity, shape) for what, where in zip(findings, places, strict=True)]
    with progress(f"control {source.name}") as on_step:
        steps = 0

        def stepped(step: int, total: int) -> None:
            nonlocal steps
            steps += 1
            on_step(min(steps, total), total, {})

        made = edit.edit(source, loaded, found.path, wishes, mask, prompt, seed, device, stepped)
    beside = out.with_name(f"{out.stem}-strip.png")
    write_atomic(out, png(made.after))
    save(made.strip, beside)
    files = {"film": str(out), "strip": str(beside)}
    if wishes:
        files["region"] = str(out.with_name(f"{out.stem}-region.png"))
        write_atomic(Path(files["region"]), png((made.region * 255).astype("uint8")))
    console.print(f"open {beside}")
    typer.echo(json.dumps({**files, "region_pixels": int(made.region.sum())}, indent=2))
