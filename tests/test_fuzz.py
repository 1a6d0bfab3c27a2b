"""A few attacks of the campaign of ``make fuzz``, always the same ones."""

from pathlib import Path

import pytest

from tests.fuzz.tries import attack
from tests.fuzz.world import World

PATIENT = 300.0  # seconds after which a command hangs, however busy the machine is
QUICK = ("images", "recipes", "datasets", "options", "kills")  # models take a second each


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("kind", QUICK)
def test_nothing_crashes_hangs_leaves_its_folder_or_is_lost(kind: str, world: World) -> None:
    for seed in range(5):
        _, ended = attack(seed, world, PATIENT, kind)
        for one in ended:
            assert not one.findings, f"seed {seed}: {one.words}"


def test_a_crash_a_hang_and_a_file_outside_are_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The campaign can fail."""
    from tests.fuzz import judge

    def crash(*args: object, **options: object) -> None:
        raise KeyError("nobody thought of this")

    monkeypatch.setattr("cxrsynth.factory.verify.verify", crash)
    assert "nobody thought of this" in judge.run(["verify", tmp_path], PATIENT).findings[0]

    def hang(*args: object, **options: object) -> None:
        while True:
            pass

    monkeypatch.setattr("cxrsynth.factory.verify.verify", hang)
    assert "hang" in judge.run(["verify", tmp_path], 0.2).findings[0]
    before = judge.snapshot(tmp_path)
    (tmp_path / "a").write_text("x")
    assert judge.changes(before, judge.snapshot(tmp_path)) == ["a"]
