"""Spawned processes that die with their parent, and whose death is always noticed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from pathlib import Path
from weakref import ReferenceType, ref

LOOK_EVERY = 1.0  # seconds between two looks at the processes
GRACE = 3.0  # seconds that the executor has to notice a death itself


def spawn_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of freshly started processes (a forked one would inherit torch's threads and locks).

    A process that is killed breaks the pool: every call that waits fails with ``BrokenProcessPool``.
    """
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=follow_parent)
    # A process that ends joins its children before the executor tells them to go: a pool inside a worker of a pool
    # would wait for ever. Finalizers with a priority run before that.
    Finalize(pool, _close, args=(ref(pool),), exitpriority=100)
    threading.Thread(target=_watch, args=(ref(pool),), daemon=True, name="pool-watch").start()
    return pool


def _close(pool: ReferenceType[ProcessPoolExecutor]) -> None:
    alive = pool()
    if alive is not None:
        # Waiting matters: the queue that carries the good-bye is closed by a later finalizer.
        alive.shutdown(wait=True, cancel_futures=True)


def _watch(pool: ReferenceType[ProcessPoolExecutor]) -> None:
    """Break a pool that lost a process and does not know it.

    The executor looks for deaths only while it waits for the beginning of a result. A process that is killed with half
    of its result in the pipe leaves it reading for ever, for the pipe stays open at its own end.
    """
    dead_since = 0.0
    while True:
        time.sleep(LOOK_EVERY)
        alive = pool()
        processes = dict(getattr(alive, "_processes", None) or {})
        if alive is None or (getattr(alive, "_shutdown_thread", False) and not processes):
            return
        if all(process.exitcode is None for process in processes.values()) or getattr(alive, "_broken", False):
            dead_since = 0.0
        elif not dead_since:
            dead_since = time.monotonic()
        elif time.monotonic() - dead_since >= GRACE:
            for process in processes.values():
                process.kill()
            # The last open end of the pipe: the read ends, and the executor fails what waits.
            alive._result_queue._writer.close()  # type: ignore[attr-defined]
            return
        del alive


def follow_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it ends, even by ``kill -9``.

    The processes of a pool hold both ends of their queue, so they would wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def cores() -> int:
    """The cores this process may use: those of the machine, less what affinity and the container's quota take away."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(Path("/sys/fs/cgroup"))
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def _quota(root: Path) -> float | None:
    """Cores that a control group allows; None where it sets no limit."""
    try:
        new = root / "cpu.max"
        if new.exists():
            most, period = new.read_text().split()
        else:
            most, period = ((root / "cpu" / f"cpu.cfs_{what}_us").read_text() for what in ("quota", "period"))
        return None if most.strip() in ("max", "-1") else float(most) / float(period)
    except (OSError, ValueError):
        return None
