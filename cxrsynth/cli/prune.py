"""``cxrsynth prune``, ``confirm`` and ``balance``: a dataset without the images that it is better off without."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxrsynth.cli.answer import answer
from cxrsynth.cli.options import Device, Json, Offline, Threads
from cxrsynth.cli.pages import write_pages
from cxrsynth.cli.segment import Classes, split_names
from cxrsynth.cli.train import overrides, progress
from cxrsynth.console import console, meter
from cxrsynth.data.paths import refuse_overlap
from cxrsynth.lock import writing

if TYPE_CHECKING:
    from cxrsynth.factory.derived import Derived

Dataset = Annotated[Path, typer.Argument(help="Dataset to leave images out of; it stays as it is.", show_default=False)]
Out = Annotated[Path, typer.Option("--out", "-o", help="Dataset folder to write.", show_default=False)]
Findings = Annotated[str, typer.Option(help="Findings, comma between: pneumonia,effusion.", show_default=False)]
Folds = Annotated[int | None, typer.Option(min=2, help="Parts; a network learns from the others.  [default: 3]")]
Updates = Annotated[int | None, typer.Option(min=1, help="Steps of the optimizer per fold.  [default: 2000]")]
Size = Annotated[int | None, typer.Option(help="Side of the square a network sees.  [default: that of the training]")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any other value: --set train.encoder=resnet18.")]


def prune(
    dataset: Dataset,
    out: Out,
    folds: Folds = None,
    drop: Annotated[
        float | None, typer.Option(min=0, help="Part of each fold that is left out.  [default: 0.1]")
    ] = None,
    relabel: Annotated[
        bool, typer.Option("--relabel", help="Replace the masks by those of the network that did not learn from them.")
    ] = False,
    classes: Classes = "",
    updates: Updates = None,
    size: Size = None,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Leave out the images of which masks and networks disagree most; re-running the command goes on where it stopped.

    The dataset is divided into folds, a segmenter learns from the others, and its masks of the images of a fold are set
    against theirs (DiffuMask, ICCV 2023). dropped.png shows the worst of what is left out: look whether it should be.
    Every image gets its hardness as a score, which `train-seg --set hardness=0.5` uses. Example:

        cxrsynth prune out/lung -o out/lung-pruned --folds 3 --drop 0.1

        cxrsynth prune out/lung -o out/lung-relabelled --drop 0 --relabel
    """
    from cxrsynth.crossfit.prune import PruneConfig
    from cxrsynth.crossfit.prune import prune as run

    named = {"folds": folds, "drop": drop, "relabel": relabel or None}
    changes = {"train.updates": updates, "train.size": size, "train.classes": split_names(classes) or None}
    config = settled(PruneConfig, named, changes, set_, "cxrsynth prune --help")
    refuse_overlap(dataset, out, around=True)
    with writing(out):
        with progress("prune") as on_step:
            derived, dice = run(dataset, out, config, device, on_step)
        write_pages(out)
    if (out / "dropped.png").exists():
        console.print(f"open {out / 'dropped.png'}")
    answer({**told(derived), "dice": round(dice, 5)}, as_json)


def confirm(
    dataset: Dataset,
    out: Out,
    labels: Findings,
    real: Annotated[
        Path | None, typer.Option(help="Dataset that the classifiers learn from; the images themselves by default.")
    ] = None,
    folds: Folds = None,
    encoder: Annotated[str | None, typer.Option(help="Any network of timm.  [default: resnet18]")] = None,
    updates: Updates = None,
    size: Size = None,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Leave out images whose findings a classifier of another fold does not confirm; the same command resumes.

    Real images are divided into folds by patient, and a classifier learns from the others. An image made from the text
    of a patient (columns source and patient of a CSV of prompts) is shown to the one that has not seen the patient. It
    stays where every finding it is said to have reaches its threshold, or none does if it is said to have none.

    Example:

        cxrsynth confirm out/findings --real data/real --labels pneumonia,effusion -o out/confirmed
    """
    from cxrsynth.crossfit.confirm import ConfirmConfig
    from cxrsynth.crossfit.confirm import confirm as run

    changes = {
        "train.labels": split_names(labels), "train.encoder": encoder, "train.updates": updates, "train.size": size,
    }  # fmt: skip
    config = settled(ConfirmConfig, {"folds": folds}, changes, set_, "cxrsynth confirm --help")
    for root in (dataset, *([real] if real else [])):
        refuse_overlap(root, out, around=True)
    with writing(out):
        with progress("confirm") as on_step:
            derived = run(dataset, out, config, real, device, on_step)
        write_pages(out)
    answer(told(derived), as_json)


def balance(
    dataset: Dataset,
    out: Out,
    labels: Findings,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the choice among images of a finding.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any other value: --set negatives=source.")] = None,
    as_json: Json = False,
) -> None:
    """Leave out images until every finding has as many as every other, and as many have none; train split only.

    An image with several findings counts as one with the rarest of them. Example:

        cxrsynth balance out/confirmed --labels pneumonia,effusion -o out/balanced
    """
    from cxrsynth.factory.balance import BalanceConfig
    from cxrsynth.factory.balance import balance as run
    from cxrsynth.store import Store

    named = {"labels": split_names(labels), "seed": seed}
    config = settled(BalanceConfig, named, {}, set_, "cxrsynth balance --help")
    refuse_overlap(dataset, out, around=True)
    total = sum(len(receipt.keys) for receipt in Store(dataset).receipts())
    with writing(out), meter(total, f"balance {dataset.name}") as bar:
        derived = run(dataset, out, config, bar.advance)
        write_pages(out)
    answer(told(derived), as_json)


def settled(kind: type[Any], named: dict[str, Any], changes: dict[str, Any], set_: list[str] | None, hint: str) -> Any:
    """A configuration from options and ``--set``, which comes last."""
    from cxrsynth.recipe.settings import settle

    given = {name: value for name, value in changes.items() if value is not None}
    return settle(kind, named, {**given, **overrides(set_)}, hint)


def told(derived: Derived) -> dict[str, Any]:
    """What became of the images."""
    left_out = derived.left_out()
    kept = derived.kept
    return {"images": kept + sum(left_out.values()), "kept": kept, "left_out": left_out, "out": str(derived.out.root)}
