"""``cxrsynth evaluate grounding``: where words for findings look on real images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrsynth.cli.answer import answer
from cxrsynth.cli.options import Base, Device, Json, Lora, Offline, Threads
from cxrsynth.console import console, meter

if TYPE_CHECKING:
    from cxrsynth.evaluate.results import Record


def evaluate_grounding(
    images: Annotated[
        Path, typer.Argument(help="Real images with boxes, as `cxrsynth ingest` wrote them.", show_default=False)
    ],
    model: Annotated[
        str,
        typer.Option(envvar="CXRSYNTH_MODEL", help="Diffusion model whose attention is read: name, folder or hub id."),
    ] = "mini",
    base: Base = None,
    lora: Lora = None,
    predicted: Annotated[
        Path | None,
        typer.Option("--pred", help="Instead of a model: a dataset with maps, layers or masks of the same images."),
    ] = None,
    segmenter: Annotated[Path | None, typer.Option(help="Instead of a model: run folder of train-seg.")] = None,
    phrase: Annotated[
        list[str] | None,
        typer.Option(help="Words to read, or classes with --pred and --segmenter; default: one per finding, controls."),
    ] = None,
    against: Annotated[
        str, typer.Option(help="A phrase that every map is normalised against, for example 'no finding'.")
    ] = "",
    half: Annotated[
        Literal["working", "reporting", "both"],
        typer.Option(help="Half of the patients: look at one while you work, report the other once."),
    ] = "working",
    boxes: Annotated[
        list[str] | None,
        typer.Option(
            help="Boxes of this reader only: rsna, nih; or readings, the zones that readings of tuberculosis name."
        ),
    ] = None,
    lungs: Annotated[
        Path | None,
        typer.Option(help="Masks of the same images, from annotate: figures count within lungs and heart only."),
    ] = None,
    timestep: Annotated[list[int] | None, typer.Option(help="Noise to read at; may be repeated.")] = None,
    name: Annotated[str, typer.Option(help="Name of the arm in tables; that of the model by default.")] = "",
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path("results"),
    as_json: Json = False,
) -> None:
    """Pointing game, mean IoU, contrast and AUROC per pixel of phrases against radiologists' boxes.

    Each figure has a 95 % interval by patient, chance beside it, and the controls "dog" and "no abnormality": a phrase
    that points no better than a dog has found nothing. Writes OUT/lesions.json. Example:

        cxrsynth evaluate grounding data/images --phrase opacity --phrase consolidation --against "no finding"

    A network instead of a model:  cxrsynth evaluate grounding data/images --segmenter runs/simulated --phrase opacity

    Patients that it was trained on are left out.
    """
    from cxrsynth.data.boxes import READERS, READINGS
    from cxrsynth.errors import UsageError
    from cxrsynth.registry import unknown

    for reader in boxes or ():
        if reader not in (*READERS, READINGS):
            raise unknown("readers", reader, [*READERS, READINGS])
    if predicted is not None and segmenter is not None:
        raise UsageError("--pred and --segmenter exclude each other", "leave one out")
    from cxrsynth.device import resolve
    from cxrsynth.evaluate import finding_maps, findings, results
    from cxrsynth.evaluate.lesions import cases
    from cxrsynth.factory.plan import find_weights

    seen: list[str] = []
    if segmenter is not None:
        from cxrsynth.evaluate.segmentation import patients_of

        seen = patients_of(segmenter).get("train", [])
    chosen = cases(images, half, tuple(boxes or READERS), lungs, seen)
    asked = list(dict.fromkeys(case.finding for case in chosen))
    if predicted is not None:
        read, arm = finding_maps.stored(predicted, phrase or asked), predicted.resolve().name
    elif segmenter is not None:
        from cxrsynth.nets.segmenter import load

        read, arm = finding_maps.segmented(load(segmenter, resolve(device)), phrase or asked), segmenter.resolve().name
    else:
        words = list(dict.fromkeys([*phrase, *findings.CONTROLS])) if phrase else findings.phrases_for(asked)
        steps = tuple(timestep or finding_maps.TIMESTEPS)
        weights = find_weights(model, base, lora, offline)
        read = finding_maps.attention(weights.path, words, against, steps, device=resolve(device).type)
        arm = Path(model).name
    with meter(len({case.row["key"] for case in chosen}), "evaluate grounding") as bar:
        values = findings.measure(images, chosen, read, lambda done, total: bar.set(done))
    found = findings.records(chosen, values, name or arm, images.resolve().name, half)
    results.write(out / "lesions.json", found)
    show(found)
    if lungs is None:
        console.print("the whole image counts; give --lungs to count within lungs and heart only")
    if as_json:
        answer(found, as_json)


def show(found: list[Record]) -> None:
    """One line per boxes, finding and phrase, the figures side by side."""
    from rich.table import Table

    from cxrsynth.evaluate.pointing import METRICS

    table = Table("boxes", "finding", "phrase", *METRICS, "n")
    lines: dict[tuple[str, str, str], dict[str, Record]] = {}
    for one in found:
        lines.setdefault((one["dataset"], one["class"], one["arm"]), {})[one["metric"]] = one
    for names, figures in lines.items():
        shown = [f"{one['value']:.2f} ({one['lo']:.2f} to {one['hi']:.2f})" for one in figures.values()]
        table.add_row(*names, *shown, str(next(iter(figures.values()))["n"]))
    console.print(table)
