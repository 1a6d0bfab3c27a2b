"""``cxrsynth train-affinity``, ``annotate`` and ``evaluate masks``: from attention to masks worth training on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrsynth.cli.answer import answer, tell_refused, tell_turned
from cxrsynth.cli.dicom import To, give_back, ready
from cxrsynth.cli.options import Base, Device, Json, Lora, Offline, OtherModel, Polarity, Threads
from cxrsynth.cli.told import LOADING
from cxrsynth.cli.train import configured, progress


def train_affinity(
    pilot: Annotated[
        Path, typer.Argument(help="Dataset with stored maps, from generate or annotate.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Weights file to write.")] = Path("affinity.safetensors"),
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a value: --set updates=800.")] = None,
    as_json: Json = False,
) -> None:
    """Train the network behind the refiners affinity, sequential and cross; running it again goes on where it stopped.

    It learns from what attention is sure of, never from reference masks. Example:

        cxrsynth train-affinity out/pilot -o affinity.safetensors

    Then name the file in a recipe:  masks: {refine: [{use: affinity, weights: affinity.safetensors}]}
    """
    from cxrsynth.train.tasks.affinity.config import AffinityConfig

    config = configured(AffinityConfig, set_)
    from cxrsynth.train.tasks.affinity.training import train_affinity as run

    with progress("train-affinity") as on_step:
        result = run(pilot, out, config, device, on_step)
    answer(result, as_json)


def annotate(
    images: Annotated[
        Path,
        typer.Argument(help="An image or DICOM file, a folder of them, or an ingested dataset.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Dataset folder to write.", show_default=False)],
    recipe: Annotated[
        Path, typer.Option("--recipe", "-r", help="Its classes, attention and mask chain are used.")
    ] = Path("recipes/lung.yaml"),
    model: OtherModel = None,
    base: Base = None,
    lora: Lora = None,
    timestep: Annotated[
        list[int] | None, typer.Option(help="Noise to read at, 0 to 999; may be repeated. Default: 10, 50, 100.")
    ] = None,
    noises: Annotated[int, typer.Option(min=1, help="Noises per timestep; more is steadier and slower.")] = 1,
    prompt: Annotated[str, typer.Option(help="What the images are said to show; nothing by default.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    split: Annotated[list[str] | None, typer.Option(help="Of a dataset: only this split; may be repeated.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="Of a dataset: only this source; may be repeated.")] = None,
    number: Annotated[
        int | None, typer.Option("--number", "-n", min=1, help="At most so many images, spread evenly over all.")
    ] = None,
    polarity: Polarity = "auto",
    to: To = None,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a value of the recipe: --set sampler.batch=8.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Label real radiographs that have no labels, with the model's attention; typing it again resumes.

    A mask comes back at its image's own size. Example:

        cxrsynth annotate images/ -o out/images-labelled

        cxrsynth annotate study/ -o out/study --to dicom
    """
    from dataclasses import asdict

    from cxrsynth.console import console
    from cxrsynth.factory.apply.annotate import Reading
    from cxrsynth.factory.apply.annotate import annotate as run
    from cxrsynth.factory.plan import find_weights
    from cxrsynth.recipe import load

    ready(to, images)
    loaded = load(recipe, {"model": model, "base": base, "lora": lora or None}, set_)
    found = find_weights(loaded.model, loaded.base, loaded.lora, offline)
    reading = Reading(noises=noises, seed=seed, prompt=prompt, **({"timesteps": tuple(timestep)} if timestep else {}))
    with progress(f"annotate {images.name}", LOADING) as on_step:
        result = run(
            images,
            out,
            loaded,
            found,
            reading,
            device=device,
            splits=split or (),
            origins=source or (),
            most=number,
            polarity=polarity,
            on_images=lambda done, total: on_step(done, total, {}),
        )
    tell_refused((row["file"], row["reason"]) for row in result.refused)
    console.print(f"{result.labelled} of {result.planned} images labelled in {out}")
    tell_turned(result.turned, result.labelled)
    if result.labelled:
        console.print(f"open {out / 'preview.png'}")
    give_back(to, images, out, polarity, "cxrsynth annotate")
    if as_json:
        answer(asdict(result), as_json)


def evaluate_masks(
    pred: Annotated[
        Path,
        typer.Argument(
            help="Masks to measure: a dataset, a folder of PNGs such as nnU-Net's predictions, or of DICOM SEG.",
            show_default=False,
        ),
    ],
    true: Annotated[
        Path,
        typer.Argument(help="Masks that count: a dataset, a folder of PNGs, or of DICOM SEG.", show_default=False),
    ],
    split: Annotated[list[str] | None, typer.Option(help="Of the truth: only this split; may be repeated.")] = None,
    spacing: Annotated[float, typer.Option(min=1e-6, help="mm per pixel of the truth; 1 counts in pixels.")] = 1.0,
    tolerance: Annotated[float, typer.Option(min=0, help="Of NSD, in the unit of --spacing.")] = 2.0,
    worst: Annotated[Path | None, typer.Option(help="PNG to write: the images that agree least.")] = None,
    show: Annotated[int, typer.Option(min=1, help="How many images that sheet shows.")] = 8,
    as_json: Json = False,
) -> None:
    """Dice, IoU, HD95 and NSD per class, with 95 % intervals resampled by patient.

    A class that is in neither mask of an image does not count for that image; one that is in only one of them has Dice,
    IoU and NSD 0 and the image's diagonal as HD95. Pixels of 255 in the truth are left out.

    A folder of PNGs is matched by file name; a dataset.json of nnU-Net or a classes.json in it names the classes. A
    DICOM SEG belongs to the image it refers to, its classes are known by their codes. Examples:

        cxrsynth evaluate masks predictions/ out/lung --split test
        cxrsynth evaluate masks out/study-dicom readers/ --spacing 0.14
        cxrsynth evaluate masks out/images-labelled data/images --split test --worst worst.png
    """
    from cxrsynth.console import console
    from cxrsynth.evaluate.masks import compare_masks
    from cxrsynth.evaluate.metrics import METRICS, summarise
    from cxrsynth.pages.sheet import save

    found = compare_masks(pred, true, split or (), spacing, tolerance, shown=show if worst else 0)
    summary = summarise(found.images, found.patients)
    tell_refused(found.refused)
    if found.missing:
        console.print(f"{len(found.missing)} images of {true} have no mask in {pred} and are in no figure")
    if found.resized:
        console.print(f"{found.resized} masks had another size than the truth and were brought to it")
    if found.worst is not None and worst is not None:
        save(found.worst, worst)
        console.print(f"open {worst}")
    if as_json:
        body = {
            "images": list(found.rows()),
            "missing": found.missing,
            "refused": found.refused,
            "resized": found.resized,
            "summary": summary,
        }
        answer(body, as_json)
        return
    from rich.table import Table

    table = Table("class", *METRICS, "images")
    for name in dict.fromkeys(one["class"] for one in summary):
        cells = {one["metric"]: one for one in summary if one["class"] == name}
        shown = [f"{cells[m]['value']:.3f} ({cells[m]['lo']:.3f} to {cells[m]['hi']:.3f})" for m in METRICS]
        table.add_row(name, *shown, str(cells["dice"]["n"]))
    console.print(table)


def evaluate_chains(
    annotated: Annotated[
        Path, typer.Argument(help="Images with stored maps, from annotate or generate.", show_default=False)
    ],
    true: Annotated[Path, typer.Argument(help="The same images with the masks that count.", show_default=False)],
    chains: Annotated[Path, typer.Option(help="YAML with the chains to compare.")] = Path("recipes/bench/masks.yaml"),
    split: Annotated[list[str] | None, typer.Option(help="Of the truth: only this split; may be repeated.")] = None,
    name: Annotated[str, typer.Option(help="Name of the dataset in the table; default: folder and split.")] = "",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path("results"),
    as_json: Json = False,
) -> None:
    """Compare mask chains on the same maps: Dice, IoU, HD95, NSD, paired differences, milliseconds per image.

    Example:

        cxrsynth annotate data/images -o out/val --split val
        cxrsynth evaluate chains out/val data/images --split val -o out/val-results
    """
    from cxrsynth.evaluate import chains as run
    from cxrsynth.evaluate import results
    from cxrsynth.recipe import find

    file = find(chains)
    loaded, pairs = run.load_chains(file, annotated), run.load_pairs(file)
    with progress("evaluate chains") as on_image:
        measured, patients = run.measure(annotated, true, loaded, split or (), on_image)
    found = run.records(measured, patients, name or f"{true.resolve().name}:{'+'.join(split or ['all'])}", pairs)
    results.write(out / "masks.json", found)
    shown = ("arm", "class", "metric", "value", "lo", "hi", "n")
    kept = [one for one in found if one["metric"] in ("dice", "hd95", "ms")]
    answer([{key: one[key] for key in shown} for one in kept], as_json)
