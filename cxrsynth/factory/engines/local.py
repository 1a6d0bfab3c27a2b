"""The local engine: one worker in this process, or one spawned process per worker."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from itertools import count
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from cxrsynth.factory.batches import shards_ahead
from cxrsynth.factory.engines.loop import TRIES, drive
from cxrsynth.factory.shard import Advance, Job, ShardMaker
from cxrsynth.pool import cores, spawn_pool
from cxrsynth.records import Failure, Receipt


class InProcess:
    """A worker in this very process: a debugger works, Ctrl-C stops it where it stands."""

    def __init__(self, job: Job, advance: Advance | None) -> None:
        self.job, self.advance = job, advance
        self.maker: ShardMaker | None = None

    def submit(self, method: str, *args: Any) -> Future[Any]:
        """Call at once; the Future is done when this returns."""
        future: Future[Any] = Future()
        try:
            if self.maker is None:
                self.maker = ShardMaker(self.job)
            extra = (self.advance,) if method == "make" else ()
            future.set_result(getattr(self.maker, method)(*args, *extra))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """End the worker's pool."""
        if self.maker is not None:
            self.maker.close()


class OwnProcess:
    """A worker in a process of its own.

    A ProcessPoolExecutor of one, not ``multiprocessing.Pool``: a killed process breaks its future instead of hanging.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.executor = spawn_pool(1)

    def submit(self, method: str, *args: Any) -> Future[Any]:
        """Queue the call."""
        return self.executor.submit(_call, self.job, method, *args)

    def close(self) -> None:
        """End the process."""
        self.executor.shutdown(wait=False, cancel_futures=True)


_maker: ShardMaker | None = None


def _call(job: Job, method: str, *args: Any) -> Any:
    """Runs in the worker process, which loads the model once."""
    global _maker
    if _maker is None:
        _maker = ShardMaker(job)
    return getattr(_maker, method)(*args)


class Local(BaseModel):
    """One machine. With several CUDA devices each worker gets its own, in turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workers: int = Field(1, ge=1)

    def __call__(self, tasks: list[int], job: Job, advance: Advance | None = None) -> Iterator[Receipt | Failure]:
        """Make the shards. ``advance`` is told of progress inside a shard, with one worker only."""
        # A worker itself keeps one core busy; the others label.
        if job.labellers:
            job = replace(job, labellers=max(1, cores() // self.workers - 1))
        if self.workers == 1:
            return drive(tasks, lambda: InProcess(job, advance), 1, TRIES, shards_ahead(job.recipe))
        devices = spread(job.device)
        opened = count()

        def open_slot() -> OwnProcess:
            return OwnProcess(replace(job, device=devices[next(opened) % len(devices)]))

        return drive(tasks, open_slot, self.workers, TRIES, shards_ahead(job.recipe))


def spread(device: str) -> list[str]:
    """``auto`` or ``cuda`` -> all CUDA devices; anything else stays as it is."""
    if device in ("auto", "cuda"):
        import torch

        found = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        return found or [device]
    return [device]
