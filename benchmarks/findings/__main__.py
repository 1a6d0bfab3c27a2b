"""Findings against real lesions, by one command that goes on where it stopped.

    python -m benchmarks.findings data/train256 --segmenter runs/segmenter --classifier runs/classifier
    python -m benchmarks.findings ... --half reporting          # once: nothing may be chosen by what it says

Where words and networks point on boxes and zones, whether findings are there at all, whether control and generation do
as they are asked, what simulated, generated and few real findings are worth as training images, and blind sheets.
Figures go to results/lesions.json, sheets to OUT/blind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmarks.findings import figures, material, networks, targets
from benchmarks.findings.bench import Bench
from benchmarks.findings.settings import Settings
from benchmarks.findings.sheets import blind_sheets
from cxrsynth.cli.train import overrides
from cxrsynth.console import console
from cxrsynth.evaluate.lesions import Half
from cxrsynth.evaluate.results import Record, write
from cxrsynth.recipe.settings import load_as

RECIPE = Path("recipes/bench/findings.yaml")


def run(bench: Bench) -> list[Record]:
    """Make, train and measure everything; what is there is kept."""
    material.label(bench)
    found = bench.once("words", lambda: figures.words(bench))
    folders = {
        networks.BOXES: material.boxes(bench),
        networks.SIMULATED: material.simulated(bench),
        networks.GENERATED: material.generated(bench),
    }
    arms = networks.arms(bench)
    runs = {arm.name: networks.train(bench, arm, folders) for arm in arms}
    known = networks.seen(list(runs.values()))
    for arm in arms:
        trained = runs[arm.name]

        def measure(arm: networks.Arm = arm, trained: Path = trained) -> list[Record]:
            return [
                *figures.pointing(bench, arm, trained, known),
                *figures.image_level(bench, arm, trained, known),
            ]

        found += bench.once(arm.name, measure)
    detector = runs[networks.DETECTOR]
    found += bench.once("asked", lambda: figures.asked_for(bench, detector, folders, folders[networks.GENERATED]))
    found += bench.once("control", lambda: figures.control(bench, material.controlled(bench)))
    blind_sheets(bench, folders)
    return [*found, *targets.summary(bench, found)]


def main(
    data: Annotated[Path, typer.Argument(help="Ingested real images with boxes and words on findings.")],
    segmenter: Annotated[Path | None, typer.Option(help="Run folder of train-seg: lungs and heart.")] = None,
    classifier: Annotated[Path | None, typer.Option(help="Run folder of train-cls on real images.")] = None,
    half: Annotated[
        Literal["working", "reporting"], typer.Option(help="Half of the patients; the reporting one once.")
    ] = "working",
    recipe: Annotated[Path, typer.Option(help="Sizes and names.")] = RECIPE,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any other value: train.updates=4000.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes that generate.")] = 1,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of all that is made.")] = Path("out/bench-findings"),
    results: Annotated[Path, typer.Option(help="File of the figures.")] = Path("results/lesions.json"),
) -> None:
    """Run the benchmark on one half of the patients."""
    chosen: Half = half
    settings = load_as(Settings, recipe, overrides(set_))
    records = run(Bench(settings, data, out, chosen, segmenter, classifier, device, workers))
    command = f"make benchmark-findings HALF={half}"
    write(results, [{**one, "command": command} for one in records])
    console.print(f"{len(records)} figures in {results}; sheets to guess at in {out / 'blind'}")


if __name__ == "__main__":
    typer.run(main)
