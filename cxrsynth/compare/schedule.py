"""Which run is trained when: one after the other, or several side by side in processes of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess

import torch

from cxrsynth.compare.grid import Grid, Run
from cxrsynth.errors import CxrError
from cxrsynth.pool import cores, spawn_pool

# (finished updates, what is going on)
Progress = Callable[[int, str], None]

LOOK_EVERY = 1.0  # seconds between two looks at how far the processes are
GRACE = 5.0  # seconds in which a process that heard Ctrl-C itself writes its checkpoint


def run_all(grid: Grid, runs: Sequence[Run], workers: int, progress: Progress | None) -> None:
    """Train and measure all runs; those that are done are not made again.

    Args:
        workers: processes that train runs side by side; with 1 all is done in this one.
    """
    if workers == 1:
        one_by_one(grid, runs, progress)
    else:
        side_by_side(grid, runs, workers, progress)


def one_by_one(grid: Grid, runs: Sequence[Run], progress: Progress | None) -> None:
    """All runs in this process: a debugger works, and every update is told of."""
    finished = 0
    for run in runs:
        before = finished

        def advance(done: int, what: str, before: int = before) -> None:
            if progress:
                progress(before + done, what)

        grid.complete(run, advance)
        finished += run.updates(grid.recipe)
        advance(run.updates(grid.recipe), run.arm)


def side_by_side(grid: Grid, runs: Sequence[Run], workers: int, progress: Progress | None) -> None:
    """Runs in ``workers`` processes, each as soon as the runs it needs are done.

    Raises:
        CxrError: what went wrong in a run; the runs that ran beside it keep a checkpoint.
    """
    done = {run for run in runs if grid.done(run)}
    waiting = [run for run in runs if run not in done]
    running: dict[Future[None], Run] = {}
    others = multiprocessing.active_children()
    threads = max(1, cores() // workers)
    pool = spawn_pool(workers)
    try:
        while waiting or running:
            ready = [run for run in waiting if set(grid.needs(run)) <= done]
            for run in ready[: workers - len(running)]:
                waiting.remove(run)
                running[pool.submit(train, grid, run, threads)] = run
            for future in wait(running, LOOK_EVERY, FIRST_COMPLETED).done:
                future.result()
                done.add(running.pop(future))
            if progress:
                whole = sum(run.updates(grid.recipe) for run in done)
                names = ", ".join(dict.fromkeys(run.arm for run in running.values()))
                progress(whole + sum(grid.seen(run) for run in running.values()), names)
    except BrokenProcessPool:
        raise CxrError(
            "a training process was ended from outside, most often for want of memory",
            "run the same command again to go on, with --workers 1 if memory is short",
        ) from None
    finally:
        end(pool, running, others)


def train(grid: Grid, run: Run, threads: int) -> None:
    """Runs in a process of the pool."""
    # Two networks on all cores would fight for them.
    torch.set_num_threads(min(threads, torch.get_num_threads()))
    grid.complete(run)


def end(pool: ProcessPoolExecutor, running: dict[Future[None], Run], others: Sequence[BaseProcess]) -> None:
    """Close the pool; a training that is still going on writes its checkpoint and stops.

    Args:
        others: processes that are not of this pool.
    """
    if running:
        wait(running, GRACE)
        # A training takes a termination as Ctrl-C.
        for process in multiprocessing.active_children():
            if process not in others:
                process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)
