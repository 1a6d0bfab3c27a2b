"""recipes, new, status, verify, report, info: nothing here loads a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cxrsynth.cli.options import Base, Json, Lora, Offline
from cxrsynth.cli.told import emit
from cxrsynth.console import console, counted
from cxrsynth.errors import MismatchError, UsageError

Dataset = Annotated[Path, typer.Argument(help="Dataset folder.")]


def recipes(as_json: Json = False) -> None:
    """List the bundled recipes."""
    from cxrsynth.recipe import bundled_recipes

    found = sorted(bundled_recipes().glob("*.yaml"))
    if as_json:
        return emit([{"name": path.stem, "about": about(path)} for path in found])
    table = Table(box=None, header_style="bold")
    for column in ("recipe", "what it makes"):
        table.add_column(column)
    for path in found:
        table.add_row(path.stem, about(path))
    console.print(table)
    console.print("cxrsynth preview NAME   looks at one;   cxrsynth new NAME   copies it to edit", style="dim")
    return None


def about(path: Path) -> str:
    """The first comment line of a recipe."""
    with open(path, encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()


def new(
    name: Annotated[str, typer.Argument(help="Bundled recipe to copy.")],
    to: Annotated[Path | None, typer.Argument(help="File to write; default NAME.yaml.")] = None,
) -> None:
    """Copy a bundled recipe here, to edit it."""
    from cxrsynth.files import write_atomic
    from cxrsynth.recipe import find

    target = to or Path(f"{Path(name).stem}.yaml")
    if target.exists():
        raise UsageError(f"{target} exists already", "name another file: cxrsynth new lung mine.yaml")
    write_atomic(target, find(Path("recipes") / name).read_bytes())
    console.print(f"wrote {target}; edit it, then: cxrsynth preview {target}")


def status(dataset: Dataset, as_json: Json = False) -> None:
    """How far a dataset is: shards, kept samples, rejects by reason, failures."""
    from cxrsynth.curate import words

    found = state(dataset)
    if as_json:
        return emit(found)
    shards = f"{found['shards_done']} of {counted(found['shards'], 'shard')} done"
    slots = f"{found['kept']} kept, {counted(found['missing'], 'slot')} missing, {found['unmade']} not made yet"
    console.print(f"{found['name']}: {shards}, {slots}")
    for reason, times in sorted(found["rejected"].items(), key=lambda item: -item[1]):
        console.print(f"  {times:5d}  {words.full(reason)}")
    for failure in found["failures"]:
        console.print(f"  shard {failure['shard']} failed {counted(failure['tries'], 'time')}: {failure['error']}")
    return None


def state(dataset: Path) -> dict[str, Any]:
    """The state of a dataset from its receipts.

    Raises:
        UsageError: the folder holds no dataset.
    """
    from cxrsynth.store import Store

    store = Store(dataset)
    store.classes()  # says so if this is no dataset
    recipe = store.recipe()
    rejected: dict[str, int] = {}
    kept = planned = done = 0
    for receipt in store.receipts():
        done, kept, planned = done + 1, kept + len(receipt.keys), planned + len(receipt.planned)
        for reason, times in receipt.rejects.items():
            rejected[reason] = rejected.get(reason, 0) + times
    count, size = int(recipe.get("count") or planned), int(recipe.get("shard") or 0)
    failures = [{name: failure[name] for name in ("shard", "error", "tries")} for failure in store.failures()]
    return {
        "name": recipe.get("name") or dataset.name,
        "shards": -(-count // size) if size else done,
        "shards_done": done,
        "kept": kept,
        "missing": planned - kept,
        "unmade": max(0, count - planned),
        "rejected": rejected,
        "failures": failures,
    }


def verify(dataset: Dataset, as_json: Json = False) -> None:
    """Check every file, receipt and row, the classes, the recipe and the identity; exit 5 where something differs.

    Example:  cxrsynth verify out/lung
    """
    from cxrsynth.factory.verify import verify as check

    problems = list(check(dataset))
    if as_json:
        emit([{"path": problem.path, "what": problem.what} for problem in problems])
    for problem in problems[:20]:
        console.print(f"  {problem.path}: {problem.what}", markup=False)
    if len(problems) > 20:
        console.print(f"  and {len(problems) - 20} more; --json lists all")
    if problems:
        raise MismatchError(
            f"{dataset} is not what it says: {counted(len(problems), 'problem')}",
            "remove the receipts (shards/NNNNN.json) of those shards and re-run the command that wrote it",
        )
    console.print(f"{dataset}: every file is what its receipt says", markup=False)


def report(dataset: Dataset) -> None:
    """Write the dataset's card, contact sheet and report.html anew."""
    from cxrsynth.cli.pages import write_pages
    from cxrsynth.lock import writing
    from cxrsynth.store import Store

    Store(dataset).classes()
    with writing(dataset):
        write_pages(dataset)
    console.print(f"open {dataset / 'report.html'}")


def open_report(
    folder: Annotated[Path, typer.Argument(help="Dataset folder, or the folder of a comparison.")],
    as_json: Json = False,
) -> None:
    """Open a dataset or a comparison in the browser: its report.html, written anew where shards are newer.

    Example:  cxrsynth open out/lung
    """
    import webbrowser

    from cxrsynth.cli.pages import pages_are_stale, write_pages
    from cxrsynth.store import Store

    report = folder / "report.html"
    if (folder / "shards").is_dir() and pages_are_stale(folder):
        Store(folder).classes()
        write_pages(folder)
    if not report.is_file():
        raise UsageError(f"{folder} has no report", "name a folder that generate, ingest, annotate or compare wrote")
    seen = webbrowser.open(report.resolve().as_uri())
    console.print(f"opened {report}" if seen else f"no browser was found here; open {report}")
    if as_json:
        emit({"report": str(report), "opened": seen})


def info(
    schema: Annotated[bool, typer.Option("--schema", help="JSON Schema of recipes, for editors.")] = False,
    model: Annotated[str, typer.Option("--model", envvar="CXRSYNTH_MODEL", help="Model to describe.")] = "mini",
    base: Base = None,
    lora: Lora = None,
    offline: Offline = True,
) -> None:
    """What is installed: versions, devices, models, names a recipe may use."""
    if schema:
        from cxrsynth.recipe import Recipe

        return emit(Recipe.model_json_schema())
    from cxrsynth import registry
    from cxrsynth.factory.plan import find_weights
    from cxrsynth.factory.shard import versions

    found = find_weights(model, base, lora, offline)
    emit(
        {
            "versions": versions(),
            "model": {"name": model, "path": str(found.path), "sha256": found.digest},
            "names": {kind: registry.names(kind) for kind in registry.BUILTIN},
        }
    )
    return None
