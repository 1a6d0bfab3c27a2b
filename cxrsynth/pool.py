"""Spawned processes that die with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from weakref import ReferenceType, ref


def spawn_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of freshly started processes (a forked one would inherit torch's threads and locks)."""
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=follow_parent)
    # A process that ends joins its children before the executor tells them to go: a pool inside a worker of a pool
    # would wait for ever. Finalizers with a priority run before that.
    Finalize(pool, _close, args=(ref(pool),), exitpriority=100)
    return pool


def _close(pool: ReferenceType[ProcessPoolExecutor]) -> None:
    alive = pool()
    if alive is not None:
        # Waiting matters: the queue that carries the good-bye is closed by a later finalizer.
        alive.shutdown(wait=True, cancel_futures=True)


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
