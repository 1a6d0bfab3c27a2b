"""``cxrsynth ingest``: real radiographs -> the on-disk form."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from cxrsynth.cli.answer import answer, tell_refused
from cxrsynth.cli.options import Json, Polarity

SHOWN = 10  # reasons on screen; summary.json lists all
# Names and reasons come from outside: they are text, never markup.
PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


def ingest(
    folder: Annotated[Path, typer.Argument(help="Folder with the images.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Dataset folder to write.", show_default=False)],
    layout: Annotated[str, typer.Option(help="How the folder is arranged: collection, dicom, folder.")] = "folder",
    size: Annotated[int, typer.Option(help="Side of the square images, pixels.")] = 256,
    source: Annotated[list[str] | None, typer.Option(help="Take this source only; may be repeated.")] = None,
    definition: Annotated[
        list[str] | None, typer.Option(help="Mask definitions to take: standard, v7. Each has its own classes.")
    ] = None,
    benchmark: Annotated[
        bool,
        typer.Option("--benchmark", help="Also images and masks that may only be used to measure, never to train."),
    ] = False,
    polarity: Polarity = "auto",
    as_json: Json = False,
) -> None:
    """Bring real radiographs into the form that generation writes; what cannot be read is listed with its reason."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from cxrsynth.console import console
    from cxrsynth.errors import UsageError
    from cxrsynth.ingest.convert import ingest as run
    from cxrsynth.ingest.radiograph import was_turned
    from cxrsynth.registry import load

    chosen = load("layouts", layout)
    if layout == "collection":
        images = chosen(folder, source or (), benchmark, definition or ("standard",))
    elif source or definition or benchmark:
        raise UsageError(f"layout '{layout}' knows no sources, definitions or benchmarks", "leave these options out")
    else:
        images = chosen(folder)
    columns = (TextColumn("ingest"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("ingest", total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        result = run(images, out, size, advance, polarity)
    body = result.as_json()
    tell_refused((f"{row['source']}/{row['key']}".strip("/"), row["reason"]) for row in body["refused"])
    if body["skipped"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(body["skipped"].items()))
        console.print(f"{sum(body['skipped'].values())} files skipped for their type: {kinds}", style="yellow", **PLAIN)
        if "DICOM" in body["skipped"]:
            console.print("DICOM files are read with --layout dicom", **PLAIN)
    turned = sum(was_turned([row["reason"]]) for row in body["notes"])
    if turned:
        console.print(
            f"{turned} of {body['kept']} images were not upright and have been turned; summary.json names them", **PLAIN
        )
    reasons = Counter(row["reason"] for row in body["notes"] if row["reason"].startswith("mask "))
    for reason, count in reasons.most_common(SHOWN):
        console.print(f"{count} masks left out: {reason}", style="yellow", **PLAIN)
    for remark in body["remarks"]:
        console.print(f"note: {remark}", **PLAIN)
    shown = {key: body[key] for key in ("planned", "kept", "masks", "by_source")}
    shown |= {
        "refused": len(body["refused"]),
        "skipped": body["skipped"],
        "notes": len(body["notes"]),
        "details": str(out / "summary.json"),
    }
    answer(shown, as_json)
