"""``cxrsynth evaluate model`` and ``evaluate images``: what a model loses, finds, invents and copies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxrsynth.cli.answer import answer
from cxrsynth.cli.options import Base, Device, Json, Lora, Model, Offline, Threads
from cxrsynth.console import console, meter

if TYPE_CHECKING:
    from cxrsynth.evaluate.results import Record

Classifier = Annotated[
    Path | None, typer.Option(help="Run folder of train-cls on real images: features and prompt alignment.")
]
Segmenter = Annotated[Path | None, typer.Option(help="Run folder of train-seg on real images: anatomy, heart size.")]
Split = Annotated[str, typer.Option(help="Split of the real images to compare with.")]
Results = Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")]


def evaluate_model(
    data: Annotated[Path, typer.Argument(help="Real images, as `cxrsynth ingest` wrote them.", show_default=False)],
    model: Model = "mini",
    base: Base = None,
    lora: Lora = None,
    made: Annotated[
        Path | None, typer.Option(help="Images of the model, as `cxrsynth generate` wrote them.", show_default=False)
    ] = None,
    split: Split = "test",
    classifier: Classifier = None,
    segmenter: Segmenter = None,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    out: Results = Path("results"),
    as_json: Json = False,
) -> None:
    """Measure a model on held-out real images; with --made also what it generated.

    Without images: what the autoencoder loses, and where the class phrases look. With --made: distance to real images,
    variety, copies, heart size; with --classifier also whether view, age group and findings follow the prompt, and
    with --segmenter whether lungs and heart have the size, place and symmetry of real ones.

    Example:

    cxrsynth evaluate model data/images --made out/words --classifier runs/classifier --segmenter runs/segmenter
    """
    from cxrsynth.factory.plan import find_weights

    weights = find_weights(model, base, lora, offline)
    from cxrsynth.device import resolve
    from cxrsynth.errors import MissingError
    from cxrsynth.evaluate import grounding as localisation
    from cxrsynth.evaluate import reconstruction as autoencoder
    from cxrsynth.evaluate import results
    from cxrsynth.evaluate.features import imagenet_net

    name, where = Path(model).name, str(resolve(device))
    parts = 2 if made is None else 7
    with meter(parts, "evaluate model") as bar:
        bar.set(0, "localisation")
        taps = localisation.localisation(weights.path, data, split, device=where)
        bar.set(1, "autoencoder")
        try:
            nets = [imagenet_net(device=resolve(device))]
        except MissingError as error:
            console.print(f"without FID of reconstructions: {error}; {error.hint}", markup=False)
            nets = []
        found = autoencoder.reconstruction(weights.path, data, split, name=name, nets=nets, device=where)
        if made is not None:
            from cxrsynth.evaluate.generated import Evaluators, measure

            evaluators = Evaluators.load(weights.path, classifier, segmenter, device=device)
            report = measure(made, data, evaluators, split, name, lambda done, what: bar.set(2 + done, what))
            found += report.records
        bar.set(parts, "done")
    results.write(out / "taps.json", taps)
    results.write(out / "images.json", found)
    show([*taps, *found], as_json)


def evaluate_images(
    synthetic: Annotated[Path, typer.Argument(help="Synthetic images, a dataset.", show_default=False)],
    real: Annotated[Path, typer.Argument(help="Real images, a dataset with splits.", show_default=False)],
    model: Annotated[
        str,
        typer.Option(envvar="CXRSYNTH_MODEL", help="Model whose autoencoder makes features: name, folder or hub id."),
    ] = "mini",
    base: Base = None,
    lora: Lora = None,
    split: Split = "test",
    classifier: Classifier = None,
    segmenter: Segmenter = None,
    xrv: Annotated[
        Path | None, typer.Option(help="Weights of torchxrayvision's DenseNet-121 (state dict), if you have them.")
    ] = None,
    inception: Annotated[
        Path | None, typer.Option(help="Weights of torchvision's Inception v3, if you have them.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the arm in tables; that of the folder by default.")] = "",
    reject_copies: Annotated[
        Path | None, typer.Option(help="File to write: keys of the images that are no copies, one per line.")
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    out: Results = Path("results"),
    as_json: Json = False,
) -> None:
    """Fidelity, variety, alignment with the prompt, and copies of training images, each next to real against real.

    FID and KID are measured in every net that is there: the model's autoencoder, an ImageNet net that no radiograph
    touched (pip install 'cxrsynth[pretrained]'), a classifier of train-cls, and nets whose weight files you bring.
    Sharpness is gradient energy and power by band, as a share of real images'. Writes OUT/images.json and
    OUT/images-NAME.html with nearest neighbours.

    Example:

    cxrsynth evaluate images out/lung data/images --classifier runs/classifier --reject-copies keep.txt
    """
    from cxrsynth.factory.plan import find_weights

    weights = find_weights(model, base, lora, offline)
    from cxrsynth.data.keys import safe
    from cxrsynth.evaluate import results
    from cxrsynth.evaluate.generated import Evaluators, measure
    from cxrsynth.evaluate.images_report import page
    from cxrsynth.files import write_atomic

    arm = name or synthetic.resolve().name
    evaluators = Evaluators.load(weights.path, classifier, segmenter, xrv, inception, device)
    if evaluators.absent:
        console.print(evaluators.absent, markup=False)
    with meter(5, "evaluate images") as bar:
        report = measure(synthetic, real, evaluators, split, arm, bar.set)
    results.write(out / "images.json", report.records)
    title = f"{arm} against {real.resolve().name}:{split}"
    text = page(title, report.records, evaluators.nets, report.generated, report.train, report.privacy)
    written = out / safe(f"images-{arm}.html")
    write_atomic(written, text.encode())
    console.print(f"open {written}")
    if reject_copies is not None:
        kept = report.kept()
        write_atomic(reject_copies, "".join(f"{key}\n" for key in kept).encode())
        console.print(f"{reject_copies}: {len(kept)} of {len(report.generated.rows)} images are no copies")
    show(report.records, as_json)


def evaluate_text(
    model: Annotated[str, typer.Argument(help="Model: bundled name, folder or hub id.", show_default=False)],
    data: Annotated[Path, typer.Argument(help="Real images with captions and splits.", show_default=False)],
    split: Split = "test",
    base: Base = None,
    lora: Lora = None,
    name: Annotated[str, typer.Option(help="Name of the arm in tables; that of the model by default.")] = "",
    classifier: Classifier = None,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    out: Results = Path("results"),
    as_json: Json = False,
) -> None:
    """Probe a text encoder: does it know that two words mean the same, and does an image find its caption?

    A linear probe learns findings from frozen embeddings of captions and is tested on held-out captions in the same and
    in other words; an encoder with random weights and a bag of words stand beside it. With --classifier also
    retrieval, through a linear map from captions to that classifier's features. Run it before and after adapting.

    Example:

    cxrsynth evaluate text runs/adapted/model data/images --classifier runs/classifier
    """
    from cxrsynth.factory.plan import find_weights

    weights = find_weights(model, base, lora, offline)
    from cxrsynth.evaluate import results, text

    arm = name or Path(model).name
    records = text.probe(weights.path, data, split, arm)
    if classifier is not None:
        from cxrsynth.device import resolve as find_device
        from cxrsynth.evaluate.features import classifier_net
        from cxrsynth.nets.classifier import load

        net = classifier_net(load(classifier, find_device(device)))
        records += text.retrieval(weights.path, data, net, split, arm)
    results.write(out / "text.json", records)
    show(records, as_json)


def show(records: Sequence[Record], as_json: bool) -> None:
    """Figures, without what only matters in files."""
    shown = ("benchmark", "arm", "dataset", "class", "metric", "value", "lo", "hi", "n")
    answer([{key: item[key] for key in shown} for item in records], as_json)
