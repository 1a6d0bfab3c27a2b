"""``cxrsynth train-vae`` and ``cxrsynth train-diffusion``: a model of one's own from ingested films."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[Path, typer.Argument(help="Dataset that `cxrsynth ingest` wrote.", show_default=False)]
Run = Annotated[Path, typer.Option("--out", "-o", help="Run folder: checkpoints, curves, results.", show_default=False)]
Recipe = Annotated[Path, typer.Option("--recipe", "-r", help="Training recipe.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Change a value of the recipe: diffusion.steps=5000.")]
DEFAULT_RECIPE = Path("recipes/train/mini.yaml")


def train_vae(
    data: Data,
    out: Run,
    recipe: Recipe = DEFAULT_RECIPE,
    device: Device = "auto",
    set_: Set = None,
    decoder: Annotated[
        bool, typer.Option("--decoder", help="Train only the decoder of a finished autoencoder further.")
    ] = False,
) -> None:
    """Train the autoencoder; typing the command again goes on where it stopped."""
    from cxrsynth.train.config import load

    config = load(recipe, overrides(set_))
    from cxrsynth.train import autoencoder

    run = autoencoder.train_decoder if decoder else autoencoder.train_vae
    with progress("train-vae") as on_step:
        folder = run(data, out, config.vae, device, config.diffusion.seed, on_step)
    typer.echo(json.dumps({"vae": str(folder)}))


def train_diffusion(
    data: Data,
    out: Run,
    recipe: Recipe = DEFAULT_RECIPE,
    device: Device = "auto",
    set_: Set = None,
    export_only: Annotated[
        bool, typer.Option("--export-only", help="Write the model from the last checkpoint, without training.")
    ] = False,
) -> None:
    """Train text encoder and denoiser on an autoencoder's latents; typing it again goes on where it stopped."""
    from cxrsynth.train.config import load

    config = load(recipe, overrides(set_))
    from cxrsynth.train.diffusion import export_checkpoint
    from cxrsynth.train.diffusion import train_diffusion as run

    if export_only:
        folder = export_checkpoint(data, out, config)
    else:
        with progress("train-diffusion") as on_step:
            folder = run(data, out, config, device, on_step)
    typer.echo(json.dumps({"model": str(folder)}))


def overrides(pairs: list[str] | None) -> dict[str, Any]:
    """``["a.b=1"]`` -> ``{"a.b": 1}``, values read as YAML."""
    import yaml

    from cxrsynth.errors import UsageError

    found: dict[str, Any] = {}
    for pair in pairs or []:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise UsageError(
                f"--set {pair} has no '='", "type --set name=value, for example --set diffusion.steps=5000"
            )
        found[name] = yaml.safe_load(value)
    return found


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int, dict[str, float]], None]]:
    """A bar with the time left on stderr, and the figures of the last step."""
    from cxrsynth.console import Meter, meter

    with ExitStack() as stack:
        bars: list[Meter] = []

        def on_step(done: int, total: int, values: dict[str, float]) -> None:
            if not bars:  # only now is known how much an earlier run has done, which must not count for the time left
                bars.append(stack.enter_context(meter(total, title, done - 1)))
            bars[0].set(done, " ".join(f"{name} {value:.3f}" for name, value in values.items()))

        yield on_step
