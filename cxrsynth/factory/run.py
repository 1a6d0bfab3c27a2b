"""A run: skip what is done, drive the engine, and leave a log of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml

from cxrsynth import registry
from cxrsynth.encoding import dumps
from cxrsynth.errors import DiskFull
from cxrsynth.factory.plan import Plan, bytes_per_sample, mib
from cxrsynth.factory.shard import Advance, Job
from cxrsynth.files import write_atomic
from cxrsynth.lock import writing
from cxrsynth.recipe import Recipe
from cxrsynth.records import Failure, Receipt
from cxrsynth.store import Store


@dataclass(slots=True)
class Summary:
    """What a run did; also the line in ``runs/``."""

    out: str
    fingerprint: str
    planned: int = 0
    kept: int = 0
    missing: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    failed: list[int] = field(default_factory=list)
    shards_made: int = 0
    shards_skipped: int = 0
    samples_made: int = 0
    slots_done: int = 0
    seconds: float = 0.0
    seconds_to_first_shard: float = 0.0

    def add(self, receipt: Receipt) -> None:
        """Count a finished shard."""
        self.planned += len(receipt.planned)
        self.kept += len(receipt.keys)
        self.missing += len(receipt.planned) - len(receipt.keys)
        for reason, times in receipt.rejects.items():
            self.rejected[reason] = self.rejected.get(reason, 0) + times


def run(
    plan: Plan,
    *,
    engine: str = "local",
    engine_options: dict[str, Any] | None = None,
    part: tuple[int, int] = (0, 1),
    advance: Advance | None = None,
    on_shard: Callable[[Receipt | Failure], None] | None = None,
) -> Summary:
    """Carry out a plan. Typing the same command again continues where it stopped.

    Raises:
        UsageError: another run works on the same folder.
        CxrError: an error the user has to fix; finished shards stay.
    """
    job, store = plan.job, Store(plan.job.out)
    drive = registry.load("engines", engine)(**(engine_options or {}))
    started = time.monotonic()
    summary = Summary(str(job.out), job.fingerprint, shards_skipped=len(plan.done))
    with writing(job.out, part), _shown_to_workers(job):
        # A smaller count takes nothing away that is there, and wants nothing that is not.
        count, done = job.recipe.count, set(plan.done)
        for receipt in store.receipts():
            count = max(count, *(int(key) + 1 for key in receipt.planned), 0)
            if receipt.shard in done:
                summary.add(receipt)
        claim(store, job.recipe.model_copy(update={"count": count}), job.fingerprint, plan.identity)
        try:
            for result in drive(plan.todo, job, advance) if plan.todo else ():
                _count(summary, store, result, plan)
                if summary.shards_made == 1 and not summary.seconds_to_first_shard:
                    summary.seconds_to_first_shard = round(time.monotonic() - started, 2)
                if on_shard is not None:
                    on_shard(result)
        except DiskFull as error:
            left = plan.slots - summary.slots_done
            size = mib(left * bytes_per_sample(job))
            raise DiskFull(
                f"{error.message}; the {left} samples still to make need about {size}", error.hint
            ) from error
        finally:
            summary.seconds = round(time.monotonic() - started, 2)
            if summary.shards_made or summary.failed:
                # An interrupted run is logged too. On a full disk the log is the least of the losses.
                with suppress(DiskFull):
                    _log(summary, store, job, engine)
    return summary


def _count(summary: Summary, store: Store, result: Receipt | Failure, plan: Plan) -> None:
    slots = len(plan.job.recipe.shard_indices(result.shard))
    summary.slots_done += slots
    if isinstance(result, Failure):
        store.write_failure(result)
        summary.failed.append(result.shard)
        summary.missing += slots
        summary.planned += slots
    else:
        summary.add(result)
        summary.shards_made += 1
        summary.samples_made += len(result.keys)


def _log(summary: Summary, store: Store, job: Job, engine: str) -> None:
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    body = {**asdict(summary), "started": stamp, "host": os.uname().nodename, "engine": engine}
    store.write(f"runs/{stamp}-{job.nonce[:6]}.json", dumps(body))


@contextmanager
def _shown_to_workers(job: Job) -> Iterator[None]:
    """A file that only workers on the same folder can see."""
    write_atomic(job.proof, b"")
    try:
        yield
    finally:
        job.proof.unlink(missing_ok=True)


def claim(store: Store, recipe: Recipe, fingerprint: str, identity: dict[str, Any]) -> None:
    """Write what the folder is for: identity, resolved recipe, classes."""
    # The identity first of all, so that a run killed from here on is recognised by the next.
    store.write("identity.json", dumps({"fingerprint": fingerprint, "identity": identity}))
    resolved = recipe.resolved()
    head = f"# Written by cxrsynth: every default filled in. Fingerprint {fingerprint[:12]}.\n"
    store.write(
        "recipe.yaml", (head + yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True, width=120)).encode()
    )
    classes = [item.model_dump(mode="json") for item in recipe.classes]
    store.write("classes.json", dumps({"background": 0, "ignore": 255, "classes": classes}))
