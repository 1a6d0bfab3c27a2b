"""train-vae, train-diffusion, merge-adapter: a model of one's own from ingested images."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

AnyConfig = TypeVar("AnyConfig", bound="BaseModel")

Data = Annotated[Path, typer.Argument(help="Dataset that `cxrsynth ingest` wrote.", show_default=False)]
Run = Annotated[Path, typer.Option("--out", "-o", help="Run folder: checkpoints, curves, results.", show_default=False)]
Recipe = Annotated[Path, typer.Option("--recipe", "-r", help="Training recipe.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Change a value of the recipe: diffusion.steps=5000.")]
DEFAULT_RECIPE, ADAPT_RECIPE = Path("recipes/train/mini.yaml"), Path("recipes/train/roentgen.yaml")


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
    """Train the autoencoder; re-running the command goes on where it stopped."""
    from cxrsynth.train.config import load

    config = load(recipe, overrides(set_))
    from cxrsynth.train import autoencoder

    run = autoencoder.train_decoder if decoder else autoencoder.train_vae
    with progress("train-vae") as on_step:
        folder = run(data, out, config.vae, device, config.diffusion.seed, on_step)
    if main_process():
        typer.echo(json.dumps({"vae": str(folder)}))


def train_diffusion(
    out: Run,
    data: Annotated[
        Path | None, typer.Argument(help="Dataset that `cxrsynth ingest` wrote.", show_default=False)
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            "-b",
            help="Adapt this model: mini, a diffusers folder, or a hub id. Without it, train from scratch.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--recipe", "-r", help=f"Training recipe; default {ADAPT_RECIPE} with --base, {DEFAULT_RECIPE} without."
        ),
    ] = None,
    device: Device = "auto",
    set_: Set = None,
    dataset: Annotated[
        Path | None, typer.Option("--data", help="The dataset, named as an option.", show_default=False)
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", envvar="CXRSYNTH_OFFLINE", help="Open no connection, whatever is missing.")
    ] = False,
    export_only: Annotated[
        bool, typer.Option("--export-only", help="Write the model from the last checkpoint, without training.")
    ] = False,
) -> None:
    """Train the denoiser and its words; re-running the command goes on where it stopped.

    With --base an existing Stable-Diffusion model is adapted to images and reports, whole or by LoRA. The result is
    RUN/model, again a diffusers folder (and RUN/adapter, where only LoRA trained):

        cxrsynth train-diffusion data/images --base mini -o runs/mine --set what.unet=lora --set adapt.steps=500

    Without it a small model is trained from scratch on the autoencoder that train-vae left in RUN. Several GPUs:

        accelerate launch --num_processes 4 $(which cxrsynth) train-diffusion data/images --base FOLDER -o runs/mine
    """
    from cxrsynth.errors import UsageError

    images = data or dataset
    if images is None or (data and dataset):
        raise UsageError("name one dataset", "cxrsynth train-diffusion DATA -o RUN")
    path = recipe or (DEFAULT_RECIPE if base is None else ADAPT_RECIPE)
    result = (
        from_scratch(images, out, path, device, set_, export_only)
        if base is None
        else adapt_base(images, out, base, path, device, set_, offline, export_only)
    )
    if main_process():
        typer.echo(json.dumps(result))


def from_scratch(
    images: Path, out: Path, path: Path, device: str, set_: list[str] | None, export_only: bool
) -> dict[str, Any]:
    """Text encoder and denoiser on the latents of the autoencoder in ``out``."""
    from cxrsynth.errors import UsageError
    from cxrsynth.recipe import read
    from cxrsynth.train.adapt_config import AdaptRecipe
    from cxrsynth.train.config import TrainRecipe, load

    if set(read(path)[1]) & (set(AdaptRecipe.model_fields) - set(TrainRecipe.model_fields)):
        raise UsageError(f"{path} adapts a model, and none is named", "add --base mini, a diffusers folder or a hub id")
    config = load(path, overrides(set_))
    from cxrsynth.train.diffusion import export_checkpoint
    from cxrsynth.train.diffusion import train_diffusion as run

    if export_only:
        return {"model": str(export_checkpoint(images, out, config))}
    with progress("train-diffusion") as on_step:
        return {"model": str(run(images, out, config, device, on_step))}


def adapt_base(
    images: Path,
    out: Path,
    base: str,
    path: Path,
    device: str,
    set_: list[str] | None,
    offline: bool,
    export_only: bool,
) -> dict[str, Any]:
    """An existing model on images and their reports."""
    from cxrsynth import weights
    from cxrsynth.console import console
    from cxrsynth.train.adapt_config import AdaptRecipe
    from cxrsynth.train.config import load_as

    config = load_as(AdaptRecipe, path, overrides(set_))
    found = weights.resolve(base, offline=offline)
    from cxrsynth.train.tasks.adapt.training import adapt

    with progress(f"adapt {config.name}") as on_step:
        result = adapt(images, out, found, config, device, command(), on_step, export_only)
    cut = result["captions"]
    if cut["over_limit"] and main_process():
        console.print(
            f"{cut['over_limit']} captions are over {cut['limit']} tokens, {cut['tokens_cut']} tokens were cut"
        )
    return result


def merge_adapter(
    adapter: Annotated[Path, typer.Argument(help="RUN/adapter that train-diffusion wrote.", show_default=False)],
    base: Annotated[str, typer.Option("--base", "-b", help="The model it was trained on.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model folder to write.", show_default=False)],
    offline: Annotated[
        bool, typer.Option("--offline", envvar="CXRSYNTH_OFFLINE", help="Open no connection, whatever is missing.")
    ] = False,
) -> None:
    """Put a LoRA adapter into its base; the result is a model folder for --model. Another base is refused.

    Example:  cxrsynth merge-adapter runs/mine/adapter --base mini -o models/mine
    """
    from cxrsynth import weights

    found = weights.resolve(base, offline=offline)
    from cxrsynth.nets.lora import merge_adapter as merge

    typer.echo(json.dumps({"model": str(merge(adapter, found, out))}))


def command() -> str:
    """What was typed, full paths shortened to their last part: they say something about a machine."""
    typed = (Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:])
    return " ".join(["cxrsynth", *(shlex.quote(word) for word in typed)])


def main_process() -> bool:
    """Whether this is the process that speaks, under ``accelerate launch``; asked without importing torch."""
    return os.environ.get("RANK", "0") == "0"


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


def configured(kind: type[AnyConfig], pairs: list[str] | None) -> AnyConfig:
    """The settings of a small training, with ``--set name=value`` over their defaults.

    Raises:
        UsageError: a name or value that is not understood; the hint lists the names.
    """
    from pydantic import ValidationError

    from cxrsynth.errors import UsageError

    try:
        return kind.model_validate(overrides(pairs))
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(kind.model_fields)
        raise UsageError(f"--set {'.'.join(map(str, first['loc']))}: {first['msg']}", f"known: {known}") from None


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int, dict[str, float]], None]]:
    """A bar with the time left on stderr, and the figures of the last step."""
    from cxrsynth.console import Meter, meter

    with ExitStack() as stack:
        bars: list[Meter] = []

        def on_step(done: int, total: int, values: dict[str, float]) -> None:
            if not main_process():
                return
            if not bars:  # only now is known how much an earlier run has done, which must not count for the time left
                bars.append(stack.enter_context(meter(total, title, done - 1)))
            bars[0].set(done, " ".join(f"{name} {value:.3f}" for name, value in values.items()))

        yield on_step
