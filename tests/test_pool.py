"""A process of a pool that is killed fails the calls that wait for it, whatever it was doing."""

import os
import signal
import struct
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from cxrsynth.pool import _quota, cores, spawn_pool
from tests.conftest import PATIENCE


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_mid_message() -> None:
    """Begin an answer of a thousand bytes, send one of them, and be killed."""
    frame = sys._getframe()
    while "result_queue" not in frame.f_locals:
        assert frame.f_back is not None
        frame = frame.f_back
    pipe = frame.f_locals["result_queue"]._writer.fileno()
    os.write(pipe, struct.pack("!i", 1000) + b"x")
    die()


@pytest.mark.parametrize("death", [die, die_in_mid_message])
def test_a_killed_process_is_noticed(death: object) -> None:
    pool = spawn_pool(2)
    try:
        with pytest.raises(BrokenProcessPool):
            pool.submit(death).result(timeout=PATIENCE)  # type: ignore[arg-type]
    finally:
        pool.shutdown(wait=True)  # nor does the end hang


def test_a_pool_that_lost_nobody_works(tmp_path: Path) -> None:
    with spawn_pool(1) as pool:
        assert pool.submit(str, tmp_path).result(timeout=PATIENCE) == str(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "quota"),
    [
        ("cpu.max", "150000 100000", 1.5),
        ("cpu.max", "max 100000", None),
        ("cpu/cpu.cfs_quota_us", "400000", 4.0),
        ("cpu/cpu.cfs_quota_us", "-1", None),
        ("other", "", None),
    ],
)
def test_the_quota_of_a_container_counts(tmp_path: Path, file: str, text: str, quota: float | None) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    (tmp_path / file).write_text(text)
    assert _quota(tmp_path) == quota


def test_cores_are_counted_as_far_as_this_process_may_use_them() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
