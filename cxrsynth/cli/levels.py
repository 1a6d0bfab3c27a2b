"""``cxrsynth evaluate levels``: which grids of a model's attention to read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cxrsynth.cli.answer import answer
from cxrsynth.cli.options import Base, Device, Json, Lora, Offline, OtherModel, Threads
from cxrsynth.console import console, meter


def evaluate_levels(
    data: Annotated[Path, typer.Argument(help="Real images with reference masks, as `cxrsynth ingest` wrote them.")],
    recipe: Annotated[Path, typer.Option("--recipe", "-r", help="Its classes, phrases and timesteps are read.")] = Path(
        "recipes/lung.yaml"
    ),
    model: OtherModel = None,
    base: Base = None,
    lora: Lora = None,
    split: Annotated[str, typer.Option(help="Of the images; val, so that test stays unseen.")] = "val",
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="At most so many images.")] = 64,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a value of the recipe.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path("results"),
    as_json: Json = False,
) -> None:
    """Read every grid of a model's attention on real images, and say which of them locate the classes best.

    Dice of unrefined labels with reference masks, for each combination of levels; 1 is the grid of the latents, 2 half
    of it. The best goes into a recipe as attention.levels. Writes OUT/levels.json. Example:

        cxrsynth evaluate levels data/images --model runs/mine/model -n 64
    """
    import numpy as np

    from cxrsynth.device import resolve
    from cxrsynth.evaluate import results
    from cxrsynth.factory.apply.levels import chosen_rows, measure, read_with
    from cxrsynth.factory.plan import find_weights
    from cxrsynth.recipe import load

    loaded = load(recipe, {"model": model, "base": base, "lora": lora or None}, set_)
    chosen = chosen_rows(data, loaded, split, number)
    reader = read_with(find_weights(loaded.model, loaded.base, loaded.lora, offline).path, loaded, resolve(device))
    with meter(len(chosen), "evaluate levels") as bar:
        found = measure(reader, loaded, data, chosen, bar.advance)
    arm, dataset = Path(loaded.model).name, f"{data.resolve().name}:{split}"
    records: list[dict[str, Any]] = []
    for one in found:
        name = f"{arm} {'+'.join(map(str, one.levels))}"
        for klass, values in one.dice.items():
            figures = results.bootstrap(np.array(values), [row["key"] for row in chosen])
            records.append(results.record("levels", name, dataset, "dice", figures, len(values), klass))
    results.write(out / "levels.json", records)
    for one in found[:8]:
        each = ", ".join(f"{mean_of(values):.3f} {name}" for name, values in one.dice.items())
        console.print(f"  {'+'.join(map(str, one.levels)):8} {one.mean:.3f}   {each}", highlight=False, markup=False)
    best = found[0]
    console.print(f"put into the recipe: attention: {{levels: [{', '.join(map(str, best.levels))}]}}", markup=False)
    if as_json:
        answer([{"levels": list(one.levels), "dice": round(one.mean, 4)} for one in found], as_json)


def mean_of(values: list[float]) -> float:
    """The mean of what was measured."""
    known = [value for value in values if value == value]
    return sum(known) / max(1, len(known))
