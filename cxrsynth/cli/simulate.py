"""``cxrsynth simulate``: findings of known shape put into real images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrsynth.cli.answer import answer
from cxrsynth.cli.options import Json
from cxrsynth.console import console, meter


def simulate(
    images: Annotated[
        Path, typer.Argument(help="A dataset with masks of the lungs: ingested, or annotated.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Dataset folder to write.", show_default=False)],
    finding: Annotated[
        list[str] | None,
        typer.Option(
            "--finding",
            "-f",
            help="opacity, consolidation, ground_glass, nodule, mass, effusion, pneumothorax, "
            "atelectasis or cardiomegaly; "
            "repeatable: each image is given one of them; a+b puts both in. Default: the five usual ones.",
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Images; raising it extends a dataset.")] = 64,
    none: Annotated[
        float, typer.Option(min=0, max=1, help="Share of images without a finding, which went through the same steps.")
    ] = 0.0,
    region: Annotated[str, typer.Option(help="Where: 'left lower zone', 'right lung'; anywhere by default.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    split: Annotated[list[str] | None, typer.Option(help="Carriers of this split only; may be repeated.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="Carriers of this source only; may be repeated.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a value of a finding: --set effusion.severity=large.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put findings into real images: exact masks, true captions, no diffusion model; the same command resumes.

    Carriers are images that are known to be without the finding. The mask holds the lungs and the heart of the carrier,
    the layers the findings too. Example:

        cxrsynth simulate data/images -o out/simulated --finding effusion --finding opacity+cardiomegaly -n 200

    Images without masks are labelled first:  cxrsynth annotate data/images -o out/labelled
    """
    from dataclasses import asdict

    from cxrsynth.cli.pages import write_pages
    from cxrsynth.data.paths import refuse_overlap
    from cxrsynth.factory.carriers import find
    from cxrsynth.factory.simulate import simulate_dataset
    from cxrsynth.factory.simulation import USUAL, Simulation
    from cxrsynth.lock import writing
    from cxrsynth.recipe import assign

    settings: dict[str, dict[str, object]] = {}
    for assignment in set_ or []:
        assign(settings, assignment)
    simulation = Simulation(findings=tuple(finding or USUAL), none=none, region=region, settings=settings, seed=seed)
    simulation.check()
    carriers = find(images, split or (), source or ())
    if carriers.silent:
        console.print(f"nothing is said about the findings of {images}: its images are taken to be without")
    refuse_overlap(images, out, around=True)
    with writing(out), meter(count, f"simulate {out.name}") as bar:
        result = simulate_dataset(carriers, out, simulation, count, bar.advance)
        write_pages(out)
    for reason, times in sorted(result.rejected.items()):
        console.print(f"{times} carriers refused: {reason}")
    console.print(f"{result.made} of {result.planned} images in {out}, from {result.carriers} carriers")
    if result.made:
        console.print(f"open {out / 'before-after.png'}")
    if as_json:
        answer(asdict(result), as_json)
