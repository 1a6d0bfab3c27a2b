"""A profile says where the time went, and counts nothing twice."""

import time
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from cxrsynth.cli import app
from cxrsynth.clock import CLOCK, Clock
from tests.conftest import latent_body


def test_what_runs_inside_is_counted_for_the_inner_part_only() -> None:
    clock = Clock()
    clock.start()
    began = time.perf_counter()
    with clock.measure("outer"):
        with clock.measure("inner"):
            time.sleep(0.02)
        time.sleep(0.01)
    whole = time.perf_counter() - began
    assert clock.seconds["inner"] >= 0.02
    assert clock.seconds["outer"] >= 0.01
    assert sum(clock.seconds.values()) <= whole
    assert sum(share for _, _, share in clock.shares(whole)) <= 1.0001


def test_nothing_is_measured_unless_it_is_asked_for() -> None:
    clock = Clock()
    with clock.measure("work"):
        pass
    assert not clock.seconds


def test_a_run_says_where_its_time_went(tiny: Path, tmp_path: Path, write_recipe: Any) -> None:
    recipe = write_recipe(yaml.safe_load(yaml.safe_dump(latent_body(tiny, count=2, shard=2))))
    try:
        done = CliRunner().invoke(app, ["generate", "-p", str(recipe), "-o", str(tmp_path / "out"), "--profile"])
        assert done.exit_code == 0, done.output
        assert {"draw", "taps", "decode", "wait for labels", "write"} <= set(CLOCK.seconds)
    finally:
        CLOCK.on = False
