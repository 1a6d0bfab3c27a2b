"""``cxrsynth train-seg``, ``segment`` and ``evaluate seg``: the downstream utility of a dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cxrsynth.cli.answer import answer, tell_refused, tell_turned
from cxrsynth.cli.dicom import To, give_back, ready
from cxrsynth.cli.options import Device, Json, Offline, Polarity, Threads
from cxrsynth.cli.train import overrides, progress
from cxrsynth.console import console

Run = Annotated[Path, typer.Option("--out", "-o", help="Run folder: checkpoint, log, model/.", show_default=False)]
Weights = Annotated[Path, typer.Option("--weights", "-w", help="Run folder of train-seg.", show_default=False)]
Classes = Annotated[str, typer.Option(help="Class names, comma between: right_lung,left_lung. All by default.")]


def train_seg(
    data: Annotated[
        list[str],
        typer.Option(help="Dataset, PATH or PATH:WEIGHT or PATH:WEIGHT:PATIENTS; repeat to mix.", show_default=False),
    ],
    out: Run,
    val: Annotated[
        list[Path] | None, typer.Option(help="Dataset whose 'val' split decides; that of --data by default.")
    ] = None,
    arch: Annotated[str | None, typer.Option(help="Architecture of smp.  [default: unet]")] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Encoder of smp, or tu-NAME of timm.  [default: resnet34]")
    ] = None,
    encoder_weights: Annotated[
        Path | None, typer.Option(help="File to start the encoder from; random otherwise, nothing is downloaded.")
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="Run folder to go on from: pre-train on one dataset, fine-tune on another.")
    ] = None,
    classes: Classes = "",
    updates: Annotated[int | None, typer.Option(min=1, help="Steps of the optimizer.  [default: 2000]")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images per update.  [default: 8]")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the square the network sees.  [default: 256]")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.  [default: 0.001]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed.  [default: 0]")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Validations without gain before it stops; 0 never.  [default: 10]")
    ] = None,
    benchmark: Annotated[
        bool, typer.Option("--benchmark", help="Also masks that may only be used to measure.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any other value: augment.rotate=5.")] = None,
    as_json: Json = False,
) -> None:
    """Train a segmentation network on any datasets; re-running the command goes on where it stopped.

    Example:

    cxrsynth train-seg --data out/lung --val real -o runs/lung
    """
    from cxrsynth.train.tasks.segment.config import configure

    named = {
        "arch": arch, "encoder": encoder, "updates": updates, "batch": batch, "size": size, "lr": lr, "seed": seed,
        "patience": patience, "benchmark": benchmark or None, "classes": split_names(classes) or None,
    }  # fmt: skip
    config = configure(named, overrides(set_))
    from cxrsynth.data.labelled import Source
    from cxrsynth.train.tasks.segment.training import train_segmenter

    sources = [Source.parse(text) for text in data]
    held_out = [Source(path) for path in val or []]
    with progress("train-seg") as on_step:
        model = train_segmenter(sources, out, config, held_out, init, encoder_weights, device, on_step)
    console.print(f"open {model / 'worst.png'} and {model / 'curves.png'}")
    metrics = json.loads((model / "metrics.json").read_text(encoding="utf-8"))
    answer({"model": str(model), **metrics}, as_json)


def segment(
    images: Annotated[
        Path, typer.Argument(help="Image or DICOM file, a folder of them, or dataset.", show_default=False)
    ],
    weights: Weights,
    out: Annotated[Path, typer.Option("--out", "-o", help="Dataset folder to write.", show_default=False)],
    split: Annotated[str, typer.Option(help="Of a dataset, only this split.")] = "",
    polarity: Polarity = "auto",
    to: To = None,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Label images with a trained network, at their own size; writes a dataset and contact.png.

    Example:

    cxrsynth segment images/ --weights runs/lung -o out/labelled

    cxrsynth segment study/ --weights runs/lung --to dicom -o out/study
    """
    ready(to, images)
    from cxrsynth.device import resolve
    from cxrsynth.factory.apply.segment import segment as run
    from cxrsynth.nets.segmenter import load

    segmenter = load(weights, resolve(device))
    with progress("segment") as on_step:
        result = run(segmenter, images, out, split, lambda done, total: on_step(done, total, {}), polarity)
    tell_refused((item["path"], item["reason"]) for item in result.refused)
    tell_turned(result.turned, result.images)
    console.print(f"open {out / 'contact.png'}")
    give_back(to, images, out, polarity, f"cxrsynth segment {segmenter.config['sha256'][:8]}")
    shown = {
        "images": result.images,
        "turned": result.turned,
        "refused": result.refused,
        "classes": list(segmenter.classes),
        "out": str(out),
    }
    answer(shown, as_json)


def evaluate_seg(
    data: Annotated[Path, typer.Argument(help="Dataset with masks.", show_default=False)],
    weights: Weights,
    split: Annotated[str, typer.Option(help="Split to measure on; 'all' for an external test set.")] = "test",
    source: Annotated[list[str] | None, typer.Option(help="Only images of this source; may be repeated.")] = None,
    classes: Classes = "",
    arm: Annotated[str, typer.Option(help="Name of the row in tables; that of the run folder by default.")] = "",
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path("results"),
    as_json: Json = False,
) -> None:
    """Dice, IoU, HD95 and NSD per class with 95 % intervals by patient; the worst images as a sheet.

    A class that neither people nor the network see in an image does not count there; one that only one of them sees
    has Dice 0 and the image's diagonal as HD95. Distances are in pixels, or mm where the dataset knows them.
    """
    from cxrsynth.data.keys import safe
    from cxrsynth.device import resolve
    from cxrsynth.encoding import dumps
    from cxrsynth.evaluate import segmentation
    from cxrsynth.evaluate.results import write
    from cxrsynth.files import write_atomic
    from cxrsynth.nets.segmenter import load
    from cxrsynth.pages.sheet import save

    segmenter = load(weights, resolve(device))
    learned = segmentation.patients_of(weights)
    with progress("evaluate seg") as on_step:

        def advance(done: int, total: int) -> None:
            on_step(done, total, {})

        found = segmentation.evaluate_segmenter(
            segmenter, data, split, split_names(classes), source or (), learned, advance
        )
    name = arm or weights.resolve().name
    stem = safe(f"seg-{name}-{data.resolve().name}-{split}")
    records = found.records(name, f"{data.resolve().name}:{split}", seeds=[int(segmenter.config.get("seed", 0))])
    write(out / "seg.json", records)
    write_atomic(out / f"{stem}.json", dumps(found.as_json()))
    save(found.picture, out / f"{stem}-worst.png")
    console.print(f"open {out / f'{stem}-worst.png'}; every image's figures are in {out / f'{stem}.json'}")
    shown = ("arm", "dataset", "class", "metric", "value", "lo", "hi", "n")
    answer([{key: item[key] for key in shown} for item in records], as_json)


def split_names(text: str) -> tuple[str, ...]:
    """``"a, b"`` -> ("a", "b")."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
