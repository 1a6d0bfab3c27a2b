"""``cxrsynth control`` and ``evaluate control``: this anatomy, and that finding there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxrsynth.cli.answer import answer
from cxrsynth.cli.options import Base, Device, Json, Lora, Offline, OtherModel, Polarity, Threads
from cxrsynth.cli.told import LOADING
from cxrsynth.cli.train import progress

if TYPE_CHECKING:
    import torch

    from cxrsynth.recipe import Recipe


def control(
    source: Annotated[Path, typer.Argument(help="A label map (PNG of class ids) or a gray image.", show_default=False)],
    finding: Annotated[
        list[str] | None,
        typer.Option(
            "--finding",
            "-f",
            help="What to put in: effusion, opacity, nodule, or any words; 'no abnormality' takes away. Repeatable.",
        ),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            "--region",
            "-r",
            help="Where it may be, one for each finding: words ('left lower zone', 'right costophrenic angle'), a box "
            "left,top,right,bottom in 0..1, or a PNG of the image's size.",
        ),
    ] = None,
    severity: Annotated[
        str, typer.Option(help="mild, moderate, large, severe, or a number from 0, the least, to 1, the most.")
    ] = "moderate",
    method: Annotated[
        str,
        typer.Option(
            help="simulate: the simulator shapes it, the model generates it anew; inpaint: the model alone, from "
            "words; auto: simulate what the simulator knows."
        ),
    ] = "auto",
    whole: Annotated[
        bool, typer.Option("--whole", help="Inpaint all of the region; otherwise a ragged patch in it.")
    ] = False,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Label map of an image; otherwise the model's attention finds the anatomy.", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG to write; the strip lies beside it.")] = Path(
        "control.png"
    ),
    prompt: Annotated[
        str, typer.Option(help="What an image made of a label map shows.")
    ] = "Frontal chest X-ray, PA view.",
    recipe: Annotated[Path, typer.Option("--recipe", "-p", help="Its sampler and control settings are used.")] = Path(
        "recipes/control.yaml"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    model: OtherModel = None,
    base: Base = None,
    lora: Lora = None,
    polarity: Polarity = "auto",
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", envvar="CXRSYNTH_SET", help="Change a value: --set control.anatomy.until=0.8."),
    ] = None,
    as_json: Json = False,
) -> None:
    """One image: a label map in, an image out; an image and a region in, the image with a finding there out.

    Examples:

        cxrsynth control mask.png -o image.png

        cxrsynth control image.png --finding effusion --region "left costophrenic angle" --severity moderate -o sick.png

        cxrsynth control sick.png --finding "no abnormality" --region "left lower zone" -o clear.png
    """
    import numpy as np

    from cxrsynth.console import console
    from cxrsynth.errors import UsageError
    from cxrsynth.factory.plan import find_weights
    from cxrsynth.recipe import load

    if not source.is_file():
        raise UsageError(f"{source} does not exist", "give a label map or an image")
    findings, places = finding or [], region or []
    if len(findings) != len(places):
        raise UsageError(f"{len(findings)} findings and {len(places)} regions", "give one --region for each --finding")
    loaded = load(recipe, {"model": model, "base": base, "lora": lora or None}, set_)
    found = find_weights(loaded.model, loaded.base, loaded.lora, offline)
    from cxrsynth.data.paths import refuse_overlap
    from cxrsynth.encoding import png
    from cxrsynth.factory import edit
    from cxrsynth.files import write_atomic
    from cxrsynth.pages.sheet import save

    beside = [out.with_name(f"{out.stem}-{what}.png") for what in ("strip", "mask")]
    for path in (path for path in (source, mask) if path is not None):
        for written in beside:
            refuse_overlap(path, written)
    shape = "whole" if whole else "blob"
    wishes = [
        edit.Wish(what, edit.box(where), severity, method, shape) for what, where in zip(findings, places, strict=True)
    ]
    with progress(f"control {source.name}", LOADING) as on_step:
        steps = 0

        def stepped(step: int, total: int) -> None:
            nonlocal steps
            steps += 1
            on_step(min(steps, total), total, {})

        made = edit.edit(source, loaded, found.path, wishes, mask, prompt, seed, device, stepped, polarity)
    write_atomic(out, png(made.after))
    save(made.strip, beside[0])
    files = {"image": str(out), "strip": str(beside[0])}
    found_anywhere = np.any([np.zeros(made.after.shape, bool), *made.findings.values()], axis=0)
    if wishes:
        files["mask"] = str(beside[1])
        write_atomic(Path(files["mask"]), png((found_anywhere * 255).astype("uint8")))
    for note in made.notes:
        console.print(f"{source.name}: {note}", highlight=False, markup=False)
    console.print(f"open {beside[0]}")
    answer({**files, "finding_pixels": int(found_anywhere.sum())}, as_json)


def evaluate_control(
    made: Annotated[Path, typer.Argument(help="Images that anatomies were imposed on.", show_default=False)],
    weights: Annotated[
        Path,
        typer.Option("--weights", "-w", help="Segmenter of train-seg, trained on real images.", show_default=False),
    ],
    free: Annotated[
        Path | None, typer.Option(help="The same recipe and seeds without control: the floor.", show_default=False)
    ] = None,
    after: Annotated[
        list[Path] | None, typer.Option(help="The same images with findings put in; repeatable.", show_default=False)
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option(help="Run folder of train-cls, trained on real images.", show_default=False)
    ] = None,
    real: Annotated[
        Path | None, typer.Option(help="Ingested real images: distance with and without control.", show_default=False)
    ] = None,
    variety: Annotated[
        Path | None,
        typer.Option(help="Folder for 48 images: one mask, many noises; one noise, many masks; and the cost."),
    ] = None,
    downstream: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of `compare` whose synthetic arm goes into the table by its name; repeatable."),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="PNG to write: anatomies and images, before and after.", show_default=False)
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path("results"),
    as_json: Json = False,
) -> None:
    """Measure prompt adherence: imposed against synthetic anatomy, findings inside and outside their region, variety,
    cost.

    `make bench-control` generates what it needs and calls it. Example:

        cxrsynth evaluate control out/with --free out/free --after out/tuberculosis --weights runs/segmenter
    """
    from cxrsynth.device import resolve
    from cxrsynth.evaluate import controllability as run
    from cxrsynth.evaluate.results import write
    from cxrsynth.nets import classifier as classifiers
    from cxrsynth.nets.segmenter import load
    from cxrsynth.recipe import load as load_recipe

    where = resolve(device)
    recipe = load_recipe(made / "recipe.yaml")
    found = run.anatomy(made, free, load(weights, where))
    evaluator = None if classifier is None else classifiers.load(classifier, where)
    for folder in after or []:
        imposed = load_recipe(folder / "recipe.yaml").control
        found += run.pathology(folder, made, evaluator, imposed.inpaint.feather if imposed else 0.0)
    if real is not None:
        found += _fidelity(made, free, real, recipe, where)
    if variety is not None:
        from cxrsynth.factory.plan import weights_of
        from cxrsynth.generate import build as build_generator

        whole = weights_of(recipe, offline=True)
        drawer = build_generator(recipe, None if whole is None else whole.path, device)
        with progress("variety") as on_step:
            found += run.variety(drawer, recipe, variety / "images.npz", lambda done, total: on_step(done, total, {}))  # type: ignore[arg-type]
    for folder in downstream or []:
        found += run.downstream_utility(folder)
    write(out / "control.json", found)
    if picture is not None:
        from cxrsynth.evaluate.controllability_sheet import control_sheet
        from cxrsynth.pages.sheet import save

        save(control_sheet(made, after or []), picture)
    shown = ("arm", "class", "metric", "value", "lo", "hi", "n")
    answer([{key: item[key] for key in shown} for item in found], as_json)


def _fidelity(
    made: Path, free: Path | None, real: Path, recipe: Recipe, device: torch.device
) -> list[dict[str, object]]:
    """Distances to held-out real images in the model's own autoencoder, with and without control."""
    from cxrsynth.evaluate import controllability as run
    from cxrsynth.evaluate.features import autoencoder_net
    from cxrsynth.evaluate.images import fidelity, group, same_people
    from cxrsynth.factory.plan import find_weights

    net = autoencoder_net(find_weights(recipe.model, recipe.base, recipe.lora, True).path, device)
    found: list[dict[str, object]] = []
    for arm, folder in ((run.CONTROL, made), (run.FREE, free)):
        if folder is not None:
            generated = group(folder, name=arm)
            held_out, train = (group(real, split, same_people(generated.rows)) for split in ("test", "train"))
            arms = {arm: arm} | ({run.REAL: run.REAL} if arm == run.CONTROL else {})
            found += run.renamed(fidelity(generated, held_out, train, [net]), arms)
    return found
