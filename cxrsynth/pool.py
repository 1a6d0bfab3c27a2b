"""Spawned processes that die with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait


def spawn_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of freshly started processes (a forked one would inherit torch's threads and locks)."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=follow_parent)


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
