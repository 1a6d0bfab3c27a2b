"""No command writes into what it reads, whatever the command, and no dataset is written around what it is made of."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cxrsynth.cli import app
from cxrsynth.cli.apart import NAMES, WRITTEN, read_by
from cxrsynth.errors import UsageError
from cxrsynth.export import export
from cxrsynth.factory.apply.annotate import annotate
from cxrsynth.factory.apply.segment import segment
from cxrsynth.factory.carriers import Carriers
from cxrsynth.factory.relabel import plan_relabel
from cxrsynth.factory.simulate import simulate_dataset
from cxrsynth.factory.simulation import Simulation
from cxrsynth.ingest.convert import ingest
from cxrsynth.ingest.folder import Folder
from cxrsynth.store import Store
from tests.conftest import tree

ROOT: Any = typer.main.get_command(app)


def commands(group: Any = ROOT, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*before, name))
        else:
            yield (*before, name), command


def data_of(command: Any) -> list[str]:
    """Names of the parameters that say which data a command reads."""
    return [name for name in read_by(command.callback) if name not in NAMES]


WRITERS = {" ".join(words): command for words, command in commands() if any(p.name in WRITTEN for p in command.params)}
OF_DATA = [name for name, command in WRITERS.items() if data_of(command)]


def arguments(name: str, data: Path, out: Path) -> list[str]:
    """A call that reads ``data`` wherever it reads data, and writes ``out``."""
    found = name.split()
    for param in WRITERS[name].params:
        option = [] if "Argument" in type(param).__name__ else [param.opts[0]]
        if param.name in WRITTEN:
            found += [*option, str(out)]
        elif param.name in data_of(WRITERS[name]):
            found += [*option, str(data)]
        elif param.required:
            found += [*option, "{row} {col}" if param.name == "prompt" else "x"]
    return found


def test_every_kind_of_command_is_among_those_that_are_tried() -> None:
    some = {"ingest", "annotate", "segment", "refine", "simulate", "export", "train-seg", "train-vae", "evaluate seg"}
    assert some | {"control", "classify", "evaluate masks", "evaluate images", "train-affinity"} <= set(OF_DATA)


@pytest.mark.parametrize("name", OF_DATA)
def test_a_command_does_not_write_into_its_data(name: str, phantom_dataset: Path) -> None:
    before = tree(phantom_dataset)
    for out in (phantom_dataset, phantom_dataset / "deep" / "inside"):
        result = CliRunner().invoke(app, arguments(name, phantom_dataset, out))
        assert isinstance(result.exception, UsageError), result.output
        assert "what is read" in result.exception.message
    assert tree(phantom_dataset) == before
    assert not (phantom_dataset / "deep").exists()


def test_a_recipe_is_not_overwritten_by_the_picture_of_it(write_recipe: Any) -> None:
    recipe = write_recipe({"name": "mine"})
    result = CliRunner().invoke(app, ["preview", str(recipe), "-o", str(recipe)])
    assert isinstance(result.exception, UsageError)
    assert "mine" in recipe.read_text()


def test_a_recipe_that_lies_in_its_own_dataset_is_no_reason_to_refuse(phantom_dataset: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(phantom_dataset, tmp_path / "d")
    again = ["generate", "-p", str(copied / "recipe.yaml"), "-o", str(copied), "--dry-run"]
    assert CliRunner().invoke(app, again).exit_code == 0


AROUND: dict[str, Callable[[Path, Path], object]] = {
    "ingest": lambda inner, out: ingest(Folder(inner / "images"), out, 64),
    "annotate": lambda inner, out: annotate(inner, out, None, None, None),  # type: ignore[arg-type]
    "segment": lambda inner, out: segment(None, inner, out),  # type: ignore[arg-type]
    "refine": lambda inner, out: plan_relabel(inner, out, None, None),
    "simulate": lambda inner, out: simulate_dataset(Carriers(Store(inner), (), {}, False, 0), out, Simulation(), 1),
    "export": lambda inner, out: export(inner, "yolo", out),
}


@pytest.mark.parametrize("name", AROUND)
def test_no_dataset_is_written_around_what_it_is_made_of(name: str, phantom_dataset: Path, tmp_path: Path) -> None:
    inner = Path(shutil.copytree(phantom_dataset, tmp_path / "out" / "inner"))
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="lies in"):
        AROUND[name](inner, tmp_path / "out")
    assert tree(tmp_path) == before
