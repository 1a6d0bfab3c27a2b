"""Training with and without the grounding loss: where do the class phrases look on real held-out images?

    python -m benchmarks.grounding data/train256 runs/mini      # make bench-grounding

Two short trainings on the same autoencoder, seed, images and steps, which differ in `grounding.images_per_batch` only;
each resumes when the command is run again. Dice of unrefined attention labels against people goes to
results/grounding.json.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from cxrsynth.cli.train import progress
from cxrsynth.evaluate.grounding import localisation
from cxrsynth.evaluate.results import write
from cxrsynth.recipe.settings import load_as
from cxrsynth.train.recipe import ModelRecipe
from cxrsynth.train.tasks.diffusion.training import train_diffusion

RECIPE = Path("recipes/train/mini.yaml")
ARMS = {"with grounding": 4, "without grounding": 0}


def main(
    data: Annotated[Path, typer.Argument(help="Ingested images.")],
    run: Annotated[Path, typer.Argument(help="Run folder with a trained autoencoder in vae/.")],
    steps: Annotated[int, typer.Option(help="Steps of each training.")] = 100,
    batch: Annotated[int, typer.Option(help="Images a step.")] = 8,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the trainings and their checkpoints go.")] = Path(
        "runs/grounding"
    ),
) -> None:
    """Train both arms and measure them."""
    for arm, images in ARMS.items():
        changes = {"training.updates": steps, "training.batch": batch, "training.sheet_prompts": []}
        changes["grounding.images_per_batch"] = images
        folder = out / arm.replace(" ", "-")
        if not (folder / "vae").exists():
            shutil.copytree(run / "vae", folder / "vae")
        # Both arms see the same latents: encoding them twice would double the waiting.
        for latents in run.glob("latents-*.npz"):
            if not (folder / latents.name).exists():
                shutil.copy(latents, folder)
        with progress(arm) as on_step:
            made = train_diffusion([data], folder, None, load_as(ModelRecipe, RECIPE, changes), on_step=on_step)
        records = localisation(Path(made["model"]), data)
        for record in records:
            record |= {
                "benchmark": "grounding",
                "arm": f"{arm}, {steps} steps",
                "command": f"python -m benchmarks.grounding {' '.join(sys.argv[1:])}",
            }
        write(Path("results/grounding.json"), records)


if __name__ == "__main__":
    typer.run(main)
