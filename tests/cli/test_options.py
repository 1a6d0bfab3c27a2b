"""Options that mean the same in every command: declared in one place, each with its variable, and they work."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cxrsynth.cli import app
from cxrsynth.cli.answer import answer
from cxrsynth.cli.options import HUB_VARIABLES, THREAD_VARIABLES
from cxrsynth.errors import UsageError
from cxrsynth.pool import cores

VARIABLES = {
    "--device": "CXRSYNTH_DEVICE",
    "--offline": "CXRSYNTH_OFFLINE",
    "--threads": "CXRSYNTH_THREADS",
    "--json": "CXRSYNTH_JSON",
    "--model": "CXRSYNTH_MODEL",
}


def walk(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its full name."""
    for child, found in getattr(command, "commands", {}).items():
        yield from walk(found, f"{name} {child}".strip())
    if not hasattr(command, "commands"):
        yield name, command


COMMANDS = dict(walk(typer.main.get_command(app)))
WITH_DEVICE = [name for name, command in COMMANDS.items() if any("--device" in p.opts for p in command.params)]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an option puts into the environment is gone after a test."""
    for name in (*THREAD_VARIABLES, *HUB_VARIABLES):
        monkeypatch.setenv(name, os.environ.get(name, ""))


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_of_many_commands_has_its_variable(name: str) -> None:
    for option in COMMANDS[name].params:
        for word in option.opts:
            if word in VARIABLES:
                assert option.envvar == VARIABLES[word], word


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_takes_a_model_takes_one_in_pieces(name: str) -> None:
    words = {word for option in COMMANDS[name].params for word in option.opts}
    assert "--model" not in words or {"--base", "--lora"} <= words


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_sentence_of_help(name: str) -> None:
    assert all(getattr(option, "help", "") for option in COMMANDS[name].params if option.name != "help")


@pytest.mark.parametrize("name", WITH_DEVICE)
def test_a_command_that_computes_takes_device_threads_and_offline(name: str) -> None:
    words = {word for option in COMMANDS[name].params for word in option.opts}
    assert {"--device", "--threads", "--offline"} <= words


@pytest.mark.parametrize("name", WITH_DEVICE)
def test_a_device_that_is_none_is_refused_by_every_command(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--device", "gpu"])
    assert isinstance(result.exception, UsageError)
    assert "'gpu' is not a device" in str(result.exception)


@pytest.mark.parametrize("name", [name for name in WITH_DEVICE if name != "generate"])
def test_an_absent_device_has_one_exit_code(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--device", "cuda:77"])
    assert isinstance(result.exception, UsageError)
    assert result.exception.exit_code == 2


def test_threads_are_those_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    before = torch.get_num_threads()
    CliRunner().invoke(app, ["segment", "--threads", "1", "nowhere"])
    assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (1, "1")
    torch.set_num_threads(before)


def test_a_process_uses_no_core_it_may_not() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_offline_closes_the_hub_for_all_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    CliRunner().invoke(app, ["segment", "nowhere", "--weights", "none", "-o", "x"], env={"CXRSYNTH_OFFLINE": "1"})
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_without_json_people_get_prose_and_pipes_get_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    answer([{"arm": "real", "value": 0.12345}], as_json=False)
    said = capsys.readouterr()
    assert said.out == ""
    assert "0.123" in said.err
    answer({"model": Path("m").name, "dice": {"heart": 0.5}}, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"model": "m", "dice": {"heart": 0.5}}
