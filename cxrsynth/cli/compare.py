"""``cxrsynth compare``: what synthetic films are worth next to real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cxrsynth.cli.train import overrides
from cxrsynth.console import console, meter


def compare(
    recipe: Annotated[Path, typer.Option("--recipe", "-r", help="Comparison: a YAML file, or compare/lung.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; default out/compare/NAME.")] = None,
    device: Annotated[str, typer.Option(envvar="CXRSYNTH_DEVICE", help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int, typer.Option(min=1, help="Trainings side by side; as many as CPU cores, or 2 to 4 on one GPU.")
    ] = 1,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a value: --set train.updates=500.")] = None,
) -> None:
    """Train the same network on real, synthetic and mixed films, and say with intervals what each is worth.

    Typing the command again goes on where it stopped. Writes tables, curves.png and report.html.

    Example:

        cxrsynth compare --recipe recipes/compare/lung.yaml --workers 2
    """
    from cxrsynth import compare as rooms

    loaded = rooms.load(recipe, overrides(set_))
    folder = out or Path("out/compare") / loaded.name
    total, done = rooms.updates(loaded, folder)
    with meter(total, f"compare {loaded.name}", done) as bar:
        outcome = rooms.compare(loaded, folder, device, bar.set, workers)
    rooms.write_report(loaded, outcome, folder)
    console.print(f"open {folder / 'report.html'}")
    shown = ("arm", "dataset", "class", "metric", "value", "lo", "hi", "n")
    wanted = ("dice", "dice_ratio", "real_equivalents")
    picked = [item for item in outcome.records if item["metric"] in wanted]
    typer.echo(json.dumps([{name: item[name] for name in shown} for item in picked], indent=2))
