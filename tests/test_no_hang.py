"""A pipe, a device or a bomb in place of a file: refused at once, with the file's name, by whoever reads it."""

import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cxrsynth.data import documents
from cxrsynth.errors import UsageError
from tests.fuzz import judge
from tests.fuzz.world import World

PATIENT = 300.0  # seconds; nobody writes into these pipes


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return World(tmp_path_factory.mktemp("world")).examples


def stopped_up(source: Path, target: Path, relative: str) -> Path:
    """A copy in which a pipe stands in place of a file."""
    shutil.copytree(source, target)
    (target / relative).unlink()
    os.mkfifo(target / relative)
    return target


@pytest.mark.parametrize("command", ["verify", "report", "export", "refine", "evaluate"])
@pytest.mark.parametrize(
    "relative",
    [
        "images/00000/000000000.png", "masks/00000/000000000.png", "maps/00000/000000000.npz", "meta/00000.jsonl",
        "shards/00000.json", "classes.json", "recipe.yaml", "identity.json",
    ],
)  # fmt: skip
def test_a_pipe_in_a_dataset_stops_nobody(examples: Path, tmp_path: Path, relative: str, command: str) -> None:
    data = stopped_up(examples / "made", tmp_path / "d", relative)
    words: dict[str, list[object]] = {
        "export": ["export", data, "--to", "hf", "-o", tmp_path / "out"],
        "refine": ["refine", data, "-o", tmp_path / "out"],
        "evaluate": ["evaluate", "masks", data, data],
    }
    ended = judge.run(words.get(command, [command, data]), PATIENT)
    assert not ended.findings
    if command == "verify":
        assert ended.code == 5


@pytest.mark.parametrize("relative", ["images/a.png", "masks/b.png", "metadata.csv", "classes.json"])
def test_a_pipe_among_the_files_of_a_user_stops_nobody(examples: Path, tmp_path: Path, relative: str) -> None:
    raw = stopped_up(examples / "raw", tmp_path / "raw", relative)
    ended = judge.run(["ingest", raw, "-o", tmp_path / "out", "--size", 64], PATIENT)
    assert not ended.findings
    assert ended.code == (0 if relative.endswith(".png") else 2)


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghij")
)


@pytest.mark.parametrize("text", [LAUGHS, "a: " + "[" * 5000, "a: &a [*a]", "count: 1000000000000"])
def test_a_recipe_that_never_ends_is_refused_at_once(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    ended = judge.run(["check", tmp_path / "recipe.yaml"], PATIENT)
    assert not ended.findings
    assert ended.code == 2


def test_more_images_than_any_disk_holds_are_refused_at_once(examples: Path, tmp_path: Path) -> None:
    for words in (
        ["simulate", examples / "made", "-o", tmp_path / "out", "-n", 10**12],
        ["generate", "-p", examples / "recipe.yaml", "-o", tmp_path / "out", "--count", 10**12],
        ["preview", examples / "recipe.yaml", "-n", 10**12, "-o", tmp_path / "p.png"],
    ):
        ended = judge.run(words, PATIENT)
        assert not ended.findings
        assert ended.code == 2


def test_arrays_that_unpack_to_too_much_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", maps=np.zeros((100, 100)))
    assert documents.read_arrays(tmp_path / "a.npz")["maps"].shape == (100, 100)
    monkeypatch.setattr(documents, "MOST_ARRAY_BYTES", 50_000)
    with pytest.raises(UsageError, match="unpacks to"):
        documents.read_arrays(tmp_path / "a.npz")
