"""The Ray engine: one actor per GPU, on one machine or a cluster. Only receipts travel through Ray."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from cxrsynth.errors import MissingError
from cxrsynth.factory.batches import shards_ahead
from cxrsynth.factory.engines.loop import TRIES, drive
from cxrsynth.factory.shard import Advance, Job, ShardMaker
from cxrsynth.records import Failure, Receipt

LOOPBACK = "127.0.0.1"


NOWHERE = "http://127.0.0.1:9"  # nobody listens there
# What Ray and its processes inherit when it starts on this machine alone. Where it may be a cluster, it learns its own
# address from a stranger's name server; and it asks the cloud which one it is in, whether reports are wanted or not.
CLOSED = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost,::1"),
}


@contextmanager
def closed() -> Iterator[None]:
    """Processes that start in the block reach this machine only; the own one is as before afterwards."""
    before = {name: os.environ.get(name) for name in CLOSED}
    os.environ.update(CLOSED)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


class Actor:
    """A slot whose worker is a Ray actor."""

    def __init__(self, ray: Any, job: Job, cpus: int, gpus: float) -> None:
        self.ray = ray
        # No restarts by Ray: calls that arrive during one eat the tries of healthy shards. A slot that loses its actor
        # is closed, and the scheduling loop opens another.
        self.handle = ray.remote(max_restarts=0, max_task_retries=0, num_cpus=cpus, num_gpus=gpus)(ShardMaker).remote(
            job
        )

    def submit(self, method: str, *args: Any) -> Future[Any]:
        """Call a method of the actor."""
        answer: Future[Any] = Future()

        def settle(done: Future[Any]) -> None:
            error = done.exception()
            if error is None:
                answer.set_result(done.result())
            else:
                # Ray wraps what the worker raised; the loop tells errors of the user from others by their class.
                answer.set_exception(getattr(error, "cause", None) or error)

        getattr(self.handle, method).remote(*args).future().add_done_callback(settle)
        return answer

    def close(self) -> None:
        """End the actor."""
        self.ray.kill(self.handle)


class Ray(BaseModel):
    """Actors on the cluster that ``RAY_ADDRESS`` or ``--ray-address`` names; without one, on this machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workers: int = Field(1, ge=1)
    address: str | None = None

    def __call__(self, tasks: list[int], job: Job, advance: Advance | None = None) -> Iterator[Receipt | Failure]:
        """Make the shards; OUT has to be on a file system that all nodes share (a worker that does not see it says so).

        Raises:
            MissingError: Ray is not installed, or the cluster does not answer.
        """
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        alone = self.address is None and not os.environ.get("RAY_ADDRESS")
        # "local": never a cluster of somebody else that happens to run here.
        where: dict[str, Any] = (
            {"address": "local", "_node_ip_address": LOOPBACK} if alone else {"address": self.address}
        )
        try:
            with closed() if alone else nullcontext():
                import ray

                ray.init(
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **where,
                )
        except ImportError as error:
            raise MissingError("the ray engine needs Ray", "pip install 'cxrsynth[ray]'") from error
        except (ConnectionError, ValueError) as error:
            raise MissingError(
                f"no Ray cluster at {self.address}", "start one with 'ray start --head', or leave --ray-address away"
            ) from error
        try:
            # Each actor gets a whole GPU where there are any; Ray hides the others from it.
            there = ray.cluster_resources()
            gpus = 1.0 if job.device != "cpu" and there.get("GPU", 0) else 0.0
            # Each actor holds its share of the cores, no more than a machine has: one is its own, the rest label.
            most = max(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])
            share = max(1, min(int(there.get("CPU", 1)) // self.workers, most))
            job = replace(job, labellers=max(1, share - 1))
            yield from drive(tasks, lambda: Actor(ray, job, share, gpus), self.workers, TRIES, shards_ahead(job.recipe))
        finally:
            ray.shutdown()
