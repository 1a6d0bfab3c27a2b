"""``cxrsynth train-cls``, ``classify`` and ``evaluate cls``: what images show, as probabilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cxrsynth.cli.answer import answer, tell_refused, tell_turned
from cxrsynth.cli.options import Device, Json, Offline, Polarity, Threads
from cxrsynth.cli.segment import split_names
from cxrsynth.cli.train import overrides, progress
from cxrsynth.console import console

Weights = Annotated[Path, typer.Option("--weights", "-w", help="Run folder of train-cls.", show_default=False)]
Labels = Annotated[str, typer.Option(help="Label names, comma between: AP,child,effusion.")]


def train_cls(
    data: Annotated[
        list[str],
        typer.Option(help="Dataset, PATH or PATH:WEIGHT or PATH:WEIGHT:PATIENTS; repeat to mix.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder: checkpoint, log, model/.", show_default=False)],
    val: Annotated[
        list[Path] | None, typer.Option(help="Dataset whose 'val' split decides; that of --data by default.")
    ] = None,
    labels: Labels = "",
    encoder: Annotated[str | None, typer.Option(help="Any network of timm.  [default: resnet18]")] = None,
    encoder_weights: Annotated[
        Path | None, typer.Option(help="File to start the encoder from; random otherwise, nothing is downloaded.")
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="Run folder to go on from: pre-train on one dataset, fine-tune on another.")
    ] = None,
    updates: Annotated[int | None, typer.Option(min=1, help="Steps of the optimizer.  [default: 2000]")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images per update.  [default: 16]")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the square the network sees.  [default: 192]")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.  [default: 0.001]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed.  [default: 0]")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Validations without gain before it stops; 0 never.  [default: 10]")
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any other value: augment.rotate=5.")] = None,
    as_json: Json = False,
) -> None:
    """Train a classifier on what is said about images; re-running the command goes on where it stopped.

    A label is a finding (any word of the findings or prompts), or AP (against PA), child (against adult), woman
    (against man). Without --labels it learns all that enough images have. Silence about a finding is not a "no": an
    image counts as free of it only if it is said to be normal, or if its source names that finding on other images.

    Example:

    cxrsynth train-cls --data real --labels AP,child,cardiomegaly -o runs/classifier
    """
    from cxrsynth.train.tasks.classify.config import configure

    named = {
        "encoder": encoder, "labels": split_names(labels) or None, "updates": updates, "batch": batch, "size": size,
        "lr": lr, "seed": seed, "patience": patience,
    }  # fmt: skip
    config = configure(named, overrides(set_))
    from cxrsynth.data.labelled import Source
    from cxrsynth.train.tasks.classify.training import train_classifier

    sources = [Source.parse(text) for text in data]
    held_out = [Source(path) for path in val or []]
    with progress("train-cls") as on_step:
        model = train_classifier(sources, out, config, held_out, init, encoder_weights, device, on_step)
    console.print(f"open {model / 'curves.png'}")
    metrics = json.loads((model / "metrics.json").read_text(encoding="utf-8"))
    answer({"model": str(model), **metrics}, as_json)


def classify(
    images: Annotated[
        Path, typer.Argument(help="Image or DICOM file, a folder of them, or dataset.", show_default=False)
    ],
    weights: Weights,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write: .csv or .json; stdout by default.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of a dataset, only this split.")] = "",
    polarity: Polarity = "auto",
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Probability of every label a trained classifier knows, image by image. Not for diagnosis.

    Example:

    cxrsynth classify images/ --weights runs/classifier -o probabilities.csv
    """
    from cxrsynth.errors import UsageError

    if out is not None and out.suffix not in (".csv", ".json"):
        raise UsageError(f"{out} is neither .csv nor .json", "type -o probabilities.csv")
    from cxrsynth.device import resolve
    from cxrsynth.encoding import dumps
    from cxrsynth.factory.apply.classify import as_csv
    from cxrsynth.factory.apply.classify import classify as run
    from cxrsynth.files import write_atomic
    from cxrsynth.nets.classifier import load

    classifier = load(weights, resolve(device))
    with progress("classify") as on_step:
        result = run(classifier, images, split, lambda done, total: on_step(done, total, {}), polarity)
    tell_refused((item["path"], item["reason"]) for item in result.refused)
    tell_turned(result.turned, len(result.images))
    if not result.images:
        first = result.refused[0]
        raise UsageError(f"{first['path']}: {first['reason']}", "none of the images can be read; give gray images")
    if out is None:
        answer(result.images, as_json)
        return
    write_atomic(
        out, as_csv(result.images, classifier.labels).encode() if out.suffix == ".csv" else dumps(result.images)
    )
    shown = {"images": len(result.images), "refused": len(result.refused), "labels": list(classifier.labels)}
    answer({**shown, "out": str(out)}, as_json)


def evaluate_cls(
    data: Annotated[Path, typer.Argument(help="Dataset whose images say what they show.", show_default=False)],
    weights: Weights,
    split: Annotated[str, typer.Option(help="Split to measure on; 'all' for an external test set.")] = "test",
    source: Annotated[list[str] | None, typer.Option(help="Only images of this source; may be repeated.")] = None,
    labels: Labels = "",
    arm: Annotated[str, typer.Option(help="Name of the row in tables; that of the run folder by default.")] = "",
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path("results"),
    as_json: Json = False,
) -> None:
    """AUROC per label with 95 % intervals by patient; auroc_within counts only pairs of the same source.

    A classifier that tells hospitals apart looks good where a finding lives in one hospital; compare both figures.
    """
    from cxrsynth.device import resolve
    from cxrsynth.evaluate.classification import patients_of, predict
    from cxrsynth.evaluate.results import write
    from cxrsynth.nets.classifier import load

    classifier = load(weights, resolve(device))
    predicted = predict(classifier, data, split, split_names(labels), source or (), patients_of(weights))
    seeds = [int(classifier.config["seed"])]
    name = arm or weights.resolve().name
    records = predicted.records(name, f"{data.resolve().name}:{split}", seeds=seeds)
    write(out / "classify.json", records)
    shown = ("arm", "dataset", "class", "metric", "value", "lo", "hi", "n")
    answer([{key: item[key] for key in shown} for item in records], as_json)
