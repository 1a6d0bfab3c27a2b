"""``cxrsynth compare``: the downstream utility of synthetic images next to real ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cxrsynth.cli.answer import answer
from cxrsynth.cli.options import Device, Json, Offline, Threads
from cxrsynth.cli.train import overrides
from cxrsynth.console import console, meter
from cxrsynth.lock import writing
from cxrsynth.registry import unknown

if TYPE_CHECKING:
    from cxrsynth.compare import CompareRecipe

AnyRecipe = TypeVar("AnyRecipe", bound="CompareRecipe")


def compare(
    recipe: Annotated[Path, typer.Option("--recipe", "-r", help="Comparison: a YAML file, or compare/lung.")],
    task: Annotated[str, typer.Option(help="segment: Dice of masks. classify: AUROC of findings.")] = "segment",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; default out/compare/NAME.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    offline: Offline = False,
    workers: Annotated[
        int, typer.Option(min=1, max=1024, help="Trainings side by side; as many as CPU cores, or 2 to 4 on one GPU.")
    ] = 1,
    test: Annotated[
        list[str] | None,
        typer.Option(
            help="Also measure on NAME=FOLDER: a dataset, or images/ and masks/ of your own hospital. May be repeated.",
            show_default=False,
        ),
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a value: --set train.updates=500.")] = None,
    as_json: Json = False,
) -> None:
    """Train the same network on real, synthetic and mixed images, and measure each on real test images, with intervals.

    Typing the command again goes on where it stopped. Writes tables, curves.png and report.html. Nothing is ever
    trained or validated on a folder of --test; its classes are matched by name, and distances are in mm where its
    metadata.csv has a column pixel_spacing.

    Example:

        cxrsynth compare --recipe recipes/compare/lung.yaml --workers 2

        cxrsynth compare --recipe recipes/compare/lung.yaml --test mine=hospital

        cxrsynth compare --task classify --recipe recipes/compare/findings.yaml
    """
    if task == "classify":
        return compare_classifiers(recipe, out, device, workers, overrides(set_), test or [], as_json)
    if task != "segment":
        raise unknown("tasks", task, ["segment", "classify"])
    from cxrsynth import compare as rooms

    loaded = rooms.load(recipe, overrides(set_))
    folder = out or Path("out/compare") / loaded.name
    rooms.keep_apart(loaded, folder)
    loaded = with_tests(loaded, folder, test or [])
    total, done = rooms.updates(loaded, folder)
    with meter(total, f"compare {loaded.name}", done) as bar:
        outcome = rooms.compare(loaded, folder, device, bar.set, workers)
    with writing(folder):
        rooms.write_report(loaded, outcome, folder)
    console.print(f"open {folder / 'report.html'}")
    shown = ("arm", "dataset", "class", "metric", "value", "lo", "hi", "n")
    wanted = ("dice", "dice_ratio", "real_equivalents")
    picked = [item for item in outcome.records if item["metric"] in wanted]
    answer([{name: item[name] for name in shown} for item in picked], as_json)
    return None


def with_tests(recipe: AnyRecipe, folder: Path, named: list[str]) -> AnyRecipe:
    """A comparison with the test sets of the command line, each told of."""
    from cxrsynth.compare import add_tests

    recipe, told = add_tests(recipe, folder, named)
    for line in told:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return recipe


def compare_classifiers(
    recipe: Path,
    out: Path | None,
    device: str,
    workers: int,
    changes: dict[str, Any],
    tests: list[str],
    as_json: bool,
) -> None:
    """The comparison of classifiers: the downstream utility of synthetic images for telling findings."""
    from cxrsynth.compare import classify, keep_apart, updates
    from cxrsynth.compare.classify_recipe import load
    from cxrsynth.compare.cost import COSTS
    from cxrsynth.compare.report import SPENT, csv_of
    from cxrsynth.evaluate.results import write
    from cxrsynth.files import write_atomic
    from cxrsynth.pages.tables import plain, table

    loaded = load(recipe, changes)
    folder = out or Path("out/compare") / loaded.name
    keep_apart(loaded, folder)
    loaded = with_tests(loaded, folder, tests)
    total, done = updates(loaded, folder)
    with meter(total, f"compare {loaded.name}", done) as bar:
        records = classify.compare_classifiers(loaded, folder, device, bar.set, workers)
    with writing(folder):
        # Written as a whole: figures of arms that are no longer in the recipe must not stay.
        (folder / "compare.json").unlink(missing_ok=True)
        write(folder / "compare.json", records)
        write_atomic(folder / "compare.csv", csv_of(records).encode())
        figures = [item for item in records if item["metric"] not in COSTS]
        spent = [item for item in records if item["metric"] in COSTS]
        parts = [
            f"## {plain(dataset)}, {metric}\n\n{table(figures, columns='class', dataset=dataset, metric=metric)}"
            for dataset, metric in dict.fromkeys((item["dataset"], item["metric"]) for item in figures)
        ]
        parts.append(f"## Training\n\n{SPENT}\n\n{table(spent)}")
        write_atomic(folder / "compare.md", "\n".join(parts).encode())
    console.print(f"open {folder / 'compare.md'}")
    shown = ("arm", "dataset", "class", "metric", "value", "lo", "hi", "n")
    answer([{name: item[name] for name in shown} for item in records], as_json)
