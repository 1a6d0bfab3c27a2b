"""Runs plan, skip what is done, resume, extend, divide and never mix recipes."""

import errno
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from filelock import FileLock

from cxrsynth import registry
from cxrsynth.data.labelled import check_finished
from cxrsynth.errors import DiskFull, MismatchError, UsageError
from cxrsynth.factory.plan import make_plan
from cxrsynth.factory.run import Summary, run
from cxrsynth.factory.verify import against_receipts
from cxrsynth.recipe import parse
from cxrsynth.store import Store
from tests.conftest import phantom_body, tree


def make(out: Path, part: tuple[int, int] = (0, 1), workers: int = 1, **changes: Any) -> Summary:
    recipe = parse(phantom_body(**changes))
    options = {"workers": workers} if workers > 1 else {}
    return run(make_plan(recipe, out, part=part), part=part, engine_options=options)


def same(one: Path, other: Path) -> bool:
    """Whether two datasets have the same files with the same bytes; says which differ."""
    a, b = tree(one), tree(other)
    assert sorted(name for name in {*a, *b} if a.get(name) != b.get(name)) == []
    return True


def test_a_second_run_makes_nothing(tmp_path: Path, phantom_dataset: Path) -> None:
    shutil.copytree(phantom_dataset, tmp_path / "d")
    assert make(tmp_path / "d").shards_made == 0
    assert same(tmp_path / "d", phantom_dataset)


def test_two_runs_give_the_same_bytes(tmp_path: Path, phantom_dataset: Path) -> None:
    make(tmp_path / "d")
    assert same(tmp_path / "d", phantom_dataset)


def test_a_damaged_shard_is_made_again(tmp_path: Path, phantom_dataset: Path) -> None:
    shutil.copytree(phantom_dataset, tmp_path / "d")
    victim = next((tmp_path / "d/images/00001").glob("*.png"))
    victim.write_bytes(b"broken")
    assert make(tmp_path / "d").shards_made == 1
    assert same(tmp_path / "d", phantom_dataset)


def test_raising_count_keeps_every_picture_there_is(tmp_path: Path, phantom_dataset: Path) -> None:
    make(tmp_path / "d", count=4)
    before = {name: data for name, data in tree(tmp_path / "d").items() if name.startswith(("images", "masks", "maps"))}
    make(tmp_path / "d", count=6)
    after = tree(tmp_path / "d")
    assert {name: after[name] for name in before} == before
    assert same(tmp_path / "d", phantom_dataset)


def test_a_smaller_count_takes_nothing_away(tmp_path: Path, phantom_dataset: Path) -> None:
    shutil.copytree(phantom_dataset, tmp_path / "d")
    make(tmp_path / "d", count=2)
    assert same(tmp_path / "d", phantom_dataset)


def test_a_count_that_was_never_reached_can_be_lowered(tmp_path: Path) -> None:
    make(tmp_path / "d", count=4)
    asked = (tmp_path / "d" / "recipe.yaml").read_text().replace("count: 4", "count: 999")
    (tmp_path / "d" / "recipe.yaml").write_text(asked)  # as a run of 999 leaves it that is broken off
    make(tmp_path / "d", count=4)
    check_finished(tmp_path / "d")


def test_parts_make_up_the_whole(tmp_path: Path, phantom_dataset: Path) -> None:
    for i in (1, 0):
        make(tmp_path / "d", part=(i, 2))
    assert same(tmp_path / "d", phantom_dataset)


def test_two_workers_give_the_bytes_of_one(tmp_path: Path, phantom_dataset: Path) -> None:
    assert make(tmp_path / "d", workers=2).kept == 6
    assert same(tmp_path / "d", phantom_dataset)


def test_another_recipe_in_the_same_folder_is_refused_with_the_difference(
    tmp_path: Path, phantom_dataset: Path
) -> None:
    shutil.copytree(phantom_dataset, tmp_path / "d")
    with pytest.raises(MismatchError, match=r"negative_prompt: \"\" -> \"noise\""):
        make(tmp_path / "d", negative_prompt="noise")
    assert same(tmp_path / "d", phantom_dataset)


def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(MismatchError, match="not empty"):
        make(tmp_path)


def test_resume_never_refuses_a_dataset(tmp_path: Path, phantom_dataset: Path) -> None:
    with pytest.raises(UsageError, match="holds a dataset already"):
        make_plan(parse(phantom_body()), phantom_dataset, resume="never")


def test_resume_always_needs_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to resume"):
        make_plan(parse(phantom_body()), tmp_path / "d", resume="always")


def test_a_second_run_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    plan = make_plan(parse(phantom_body()), tmp_path)
    with FileLock(tmp_path / ".lock"), pytest.raises(UsageError, match="another run"):
        run(plan)


def test_a_disk_that_is_too_small_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        total: int
        used: int
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 10, 1000))
    with pytest.raises(DiskFull, match=r"6 samples need about \d+ .iB, 0 MiB are free"):
        make(tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_rejected_slots_are_generated_again_and_can_be_looked_at(tmp_path: Path) -> None:
    # Stability cannot reach 1.1: every draw of every attempt is rejected.
    strict = {"checks": [{"use": "area", "ranges": {"heart": [0.0, 0.0001]}}], "attempts": 2}
    summary = make(tmp_path / "d", curate=strict, count=2, shard=2)
    rejects = list(Store(tmp_path / "d").rejects())
    assert (summary.kept, summary.missing) == (0, 2)
    assert sorted((row["key"], row["attempt"]) for row in rejects) == [
        (f"{i:09d}", a) for i in range(2) for a in range(2)
    ]
    assert all(row["reason"].startswith("area.heart") and (tmp_path / "d" / row["image"]).exists() for row in rejects)


@pytest.fixture
def flaw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(registry.BUILTIN["generators"], "phantom", "tests.flaky:Flaky")
    registry.table.cache_clear()
    monkeypatch.setenv("CXRSYNTH_TEST_FLAW", str(tmp_path / "flaw"))
    yield tmp_path / "flaw"  # type: ignore[misc]
    registry.table.cache_clear()


def test_a_shard_that_fails_once_is_tried_again(tmp_path: Path, flaw: Path, phantom_dataset: Path) -> None:
    flaw.write_text("once")
    assert make(tmp_path / "d").failed == []
    assert same(tmp_path / "d", phantom_dataset)


def test_a_shard_that_keeps_failing_is_recorded_and_tried_by_the_next_run(
    tmp_path: Path, flaw: Path, phantom_dataset: Path
) -> None:
    flaw.write_text("always")
    summary = make(tmp_path / "d")
    assert summary.failed == [1]
    assert summary.kept == 3
    assert "on fire" in json.loads((tmp_path / "d/failures/00001.json").read_text())["traceback"]
    flaw.unlink()
    assert make(tmp_path / "d").failed == []
    assert same(tmp_path / "d", phantom_dataset)


def test_a_folder_the_worker_does_not_share_is_noticed(tmp_path: Path) -> None:
    from dataclasses import replace

    from cxrsynth.factory.shard import ShardMaker

    plan = make_plan(parse(phantom_body()), tmp_path / "here")
    maker = ShardMaker(replace(plan.job, out=tmp_path / "elsewhere"))
    try:
        with pytest.raises(MismatchError, match="not the folder of this run"):
            maker.hello()
    finally:
        maker.close()


def test_a_run_leaves_a_log_and_no_working_file(tmp_path: Path) -> None:
    make(tmp_path / "d")
    (log,) = (tmp_path / "d/runs").glob("*.json")
    assert json.loads(log.read_text())["kept"] == 6
    assert not [path for path in os.listdir(tmp_path / "d") if path.startswith((".run", ".tmp"))]


def test_a_disk_that_fills_up_names_what_is_still_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.fsync, 0

    def full_later(descriptor: int) -> None:
        nonlocal calls
        calls += stat.S_ISREG(os.fstat(descriptor).st_mode)
        if calls > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full_later)
    with pytest.raises(DiskFull, match=r"the 3 samples still to make need about \d+ MiB"):
        make(tmp_path / "d")
    monkeypatch.undo()
    assert [receipt.shard for receipt in Store(tmp_path / "d").receipts()] == [0]
    assert not list(against_receipts(Store(tmp_path / "d")))
    assert make(tmp_path / "d").kept == 6
