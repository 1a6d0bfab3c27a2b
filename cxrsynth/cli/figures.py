"""``cxrsynth evaluate model``: what a trained model loses, finds, invents and copies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def evaluate_model(
    data: Annotated[Path, typer.Argument(help="Real films, as `cxrsynth ingest` wrote them.", show_default=False)],
    model: Annotated[str, typer.Option(help="Bundled name, folder or hub id.")] = "mini",
    made: Annotated[
        Path | None, typer.Option(help="Films the model drew, as `cxrsynth generate` wrote them.", show_default=False)
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the real films to compare with.")] = "test",
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the network.")] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path("results"),
) -> None:
    """Measure a model on held-out real films; with --made also what it drew."""
    from cxrsynth.weights import resolve

    weights = resolve(model, offline)
    from cxrsynth.evaluate import autoencoder, images, localisation, obedience, results

    name = Path(model).name
    taps = localisation.localisation(weights.path, data, split)
    found = autoencoder.reconstruction(weights.path, data, split, name=name)
    if made is not None:
        found += images.fidelity(weights.path, data, made, split, name)
        found += images.memorisation(weights.path, data, made, name)
        found += obedience.heart_size(made, name) + obedience.kinds(weights.path, data, made, name)
    results.write(out / "taps.json", taps)
    results.write(out / "images.json", found)
    shown = ("benchmark", "arm", "class", "metric", "value", "lo", "hi", "n")
    typer.echo(json.dumps([{key: item[key] for key in shown} for item in taps + found], indent=2))
