"""Which cell is trained when: one after the other, or several side by side in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess

import torch

from cxrsynth.compare.grid import Cell, Laboratory
from cxrsynth.errors import CxrError
from cxrsynth.pool import spawn_pool

# (finished updates, what is going on)
Progress = Callable[[int, str], None]

LOOK_EVERY = 1.0  # seconds between two looks at how far the processes are
GRACE = 5.0  # seconds in which a process that heard Ctrl-C itself writes its checkpoint


def one_by_one(laboratory: Laboratory, cells: Sequence[Cell], progress: Progress | None) -> None:
    """All cells in this process: a debugger works, and every update is told of."""
    finished = 0
    for cell in cells:
        before = finished

        def advance(done: int, what: str, before: int = before) -> None:
            if progress:
                progress(before + done, what)

        laboratory.run(cell, advance)
        finished += cell.updates(laboratory.recipe)
        advance(cell.updates(laboratory.recipe), cell.arm)


def side_by_side(laboratory: Laboratory, cells: Sequence[Cell], workers: int, progress: Progress | None) -> None:
    """Cells in ``workers`` processes, each as soon as the cells it needs are done.

    Raises:
        CxrError: what went wrong in a cell; the cells that ran beside it keep a checkpoint.
    """
    done = {cell for cell in cells if laboratory.done(cell)}
    waiting = [cell for cell in cells if cell not in done]
    running: dict[Future[None], Cell] = {}
    others = multiprocessing.active_children()
    threads = max(1, (os.cpu_count() or 1) // workers)
    pool = spawn_pool(workers)
    try:
        while waiting or running:
            ready = [cell for cell in waiting if set(laboratory.needs(cell)) <= done]
            for cell in ready[: workers - len(running)]:
                waiting.remove(cell)
                running[pool.submit(train, laboratory, cell, threads)] = cell
            for future in wait(running, LOOK_EVERY, FIRST_COMPLETED).done:
                future.result()
                done.add(running.pop(future))
            if progress:
                whole = sum(cell.updates(laboratory.recipe) for cell in done)
                names = ", ".join(dict.fromkeys(cell.arm for cell in running.values()))
                progress(whole + sum(laboratory.seen(cell) for cell in running.values()), names)
    except BrokenProcessPool:
        raise CxrError(
            "a training process was ended from outside, most often for want of memory",
            "type the same command again to go on, with --workers 1 if memory is short",
        ) from None
    finally:
        end(pool, running, others)


def train(laboratory: Laboratory, cell: Cell, threads: int) -> None:
    """Runs in a process of the pool."""
    # Two networks on all cores would fight for them.
    torch.set_num_threads(min(threads, torch.get_num_threads()))
    laboratory.run(cell)


def end(pool: ProcessPoolExecutor, running: dict[Future[None], Cell], others: Sequence[BaseProcess]) -> None:
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
