"""grid: two words varied, everything else the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrsynth.cli.generate import Set, check_device
from cxrsynth.cli.options import Base, Device, Lora, Offline, Threads
from cxrsynth.cli.told import LOADING
from cxrsynth.console import console, meter

PROMPT = "Frontal chest X-ray, PA view. Findings: {row} {col} pleural effusion."


def grid(
    source: Annotated[
        str, typer.Argument(metavar="MODEL-OR-RECIPE", help="A recipe, or a model: mini, a folder, a hub id.")
    ],
    rows: Annotated[str, typer.Option("--rows", help="Words, separated by commas, one row each.")],
    cols: Annotated[str, typer.Option("--cols", help="Words, separated by commas, one column each.")],
    prompt: Annotated[str, typer.Option("--prompt", help="The sentence, with {row} and {col} in it.")] = PROMPT,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=16, help="Images per cell, the same noises.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="PNG to write; default grid-NAME.png.")] = None,
    base: Base = None,
    lora: Lora = None,
    device: Device = "auto",
    threads: Threads = None,
    assignments: Set = None,
    offline: Offline = False,
) -> None:
    """Vary two words of a prompt and look: every image is generated from the same noise, so only the words differ.

    Example:  cxrsynth grid mini --rows "mild,severe" --cols "left,right"

    Another sentence, four noises per cell, and what should not be seen:

        cxrsynth grid mini --rows PA,AP --cols "no abnormality,cardiomegaly" --seeds 4
            --prompt "Chest X-ray, {row} view. Findings: {col}." --set negative_prompt="letters, tubes"
    """
    from cxrsynth.factory.grid import cells, draw_grid, recipe_of
    from cxrsynth.pages.sheet import save

    recipe = recipe_of(source, assignments, offline, base, lora)
    across = [word.strip() for word in cols.split(",")]
    specs = cells(recipe, prompt, [word.strip() for word in rows.split(",")], across, seeds)
    check_device(recipe, device)
    with meter(len(specs), f"grid {recipe.name}", waiting=LOADING if recipe.generator != "phantom" else "") as bar:
        sheet = draw_grid(recipe, specs, len(across) * seeds, device=device, offline=offline, advance=bar.advance)
    path = out or Path(f"grid-{Path(source).stem}.png")
    save(sheet, path)
    console.print(f"open {path}")
