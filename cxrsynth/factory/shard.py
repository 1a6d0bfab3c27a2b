"""make_shard: the only room where the stages meet. Spec -> Draw -> Sample -> Verdict -> files and receipt."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from cxrsynth import curate
from cxrsynth.clock import CLOCK
from cxrsynth.errors import MismatchError
from cxrsynth.factory.batches import Spare, ahead, draws
from cxrsynth.factory.computed import check_same, settled
from cxrsynth.factory.prompts import spec
from cxrsynth.generate import build as build_generator
from cxrsynth.masks.labels import Labelling, make_sample
from cxrsynth.pool import spawn_pool
from cxrsynth.recipe import Recipe
from cxrsynth.records import Check, Draw, Entry, Generator, Receipt, Row, Sample, Spec
from cxrsynth.store import Store

Advance = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to know; travels to other processes and machines.

    Attributes:
        recipe: what to make.
        fingerprint: its identity, computed once by the run.
        out: dataset folder; has to be the same folder for every worker.
        model: folder of the weights, or None for a generator without.
        device: as `cxrsynth.device.resolve` takes it.
        labellers: processes that label beside each worker; 0 labels in the worker's own; changes no byte.
        nonce: names the run; a worker that does not see `proof` does not share the folder.
    """

    recipe: Recipe
    fingerprint: str
    out: Path
    model: Path | None
    device: str
    nonce: str
    labellers: int = 1

    @property
    def proof(self) -> Path:
        """A file that exists in the dataset folder as long as the run goes on."""
        return self.out / f".run-{self.nonce}"


class ShardMaker:
    """One loaded worker: a generator, the checks, and a process pool that labels while the next batch is generated."""

    def __init__(self, job: Job) -> None:
        self.job, self.store = job, Store(job.out)
        self.labelling = Labelling.from_recipe(job.recipe)
        self.checks: list[Check] = curate.build(job.recipe.curate.checks, list(job.recipe.class_ids()))
        recipe = settled(job.recipe, self.store, job.device) if job.model is not None else job.recipe
        self.generator: Generator = build_generator(recipe, job.model, job.device, self._stepped)
        self.computed: dict[str, str] = getattr(self.generator, "computed", {})
        self.pool: Executor = spawn_pool(job.labellers) if job.labellers else ThreadPoolExecutor(1)
        self.advance: Advance | None = None
        self.early: dict[int, Draw] = {}

    def hello(self) -> dict[str, Any]:
        """Prove that this worker can do the work: it sees the same folder and says what it runs on.

        Raises:
            MismatchError: OUT is another folder here, or was begun on another device.
        """
        if not self.job.proof.exists():
            raise MismatchError(
                f"{self.job.out} on {socket.gethostname()} is not the folder of this run",
                "put OUT on a shared file system",
            )
        check_same(self.store, self.computed)
        return {"host": socket.gethostname(), "pid": os.getpid(), "versions": versions()}

    def make(self, shard: int, following: Sequence[int] = (), advance: Advance | None = None) -> Receipt:
        """Make, commit and return one shard.

        Args:
            following: the shards that come next here; their slots fill the empty places of short batches.
            advance: ``advance(samples)`` is told of progress in fractions of a sample.
        """
        self.advance, recipe = advance, self.job.recipe
        later = [index for one in following for index in recipe.shard_indices(one)]
        spare = Spare(self.early, (spec(recipe, index) for index in later if index not in self.early))
        receipt = make_shard(
            shard,
            recipe,
            self.job.fingerprint,
            self.generator,
            self.labelling,
            self.checks,
            self.store,
            self.pool,
            spare,
            self.computed,
        )
        made = self.early | spare.kept
        self.early = {index: made[index] for index in later if index in made}
        return receipt

    def close(self) -> None:
        """End the pool."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    def _stepped(self, step: int, steps: int) -> None:
        if self.advance is not None:
            self.advance(self.job.recipe.sampler.batch / steps)


def make_shard(
    shard: int,
    recipe: Recipe,
    fingerprint: str,
    generator: Generator,
    labelling: Labelling,
    checks: list[Check],
    store: Store,
    pool: Executor,
    spare: Spare | None = None,
    computed: dict[str, str] | None = None,
) -> Receipt:
    """A pure function of (recipe, shard), committed to the store; ``spare`` changes the time it takes, and no byte.

    A rejected slot is generated again with the next attempt, after the others of its round, until ``curate.attempts``.
    """
    kept: dict[int, tuple[Spec, Draw, Sample]] = {}
    decided: list[Sample] = []
    rejected: list[tuple[Row, np.ndarray]] = []
    pending = list(recipe.shard_indices(shard))
    for attempt in range(recipe.curate.attempts):
        specs = [spec(recipe, index, attempt) for index in pending]
        pending = []
        batches = draws(specs, generator, recipe.sampler.batch, spare)
        for one, draw, sample in label(batches, recipe, labelling, pool, lambda: ahead(generator, recipe, spare)):
            verdict = curate.decide(sample, decided, checks)
            scores = {**sample.scores, **verdict.scores}
            if verdict.keep:
                sample = replace(sample, scores=scores)
                kept[one.index] = (one, draw, sample)
                decided.append(sample)
            else:
                pending.append(one.index)
                row = {**describe(one, scores), "reason": verdict.reason}
                rejected.append((row, sample.image))
        if not pending:
            break
    layered = any(item.overlap for item in recipe.classes)
    with CLOCK.measure("write"):
        return store.write_shard(
            shard,
            (
                Entry(
                    row=describe(one, sample.scores),
                    image=sample.image,
                    mask=sample.mask,
                    layers=sample.layers if layered else None,
                    maps=draw.arrays(recipe.masks.keep_maps),
                )
                for one, draw, sample in (kept[index] for index in sorted(kept))
            ),
            fingerprint=fingerprint,
            planned=recipe.shard_keys(shard),
            rejected=rejected,
            versions=versions(),
            computed=computed,
        )


def label(
    batches: Iterable[list[tuple[Spec, Draw]]],
    recipe: Recipe,
    labelling: Labelling,
    pool: Executor,
    meanwhile: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Spec, Draw, Sample]]:
    """Label each batch in the pool while the next one is generated; yields in order.

    Args:
        meanwhile: called while the last batches are labelled and nothing is left to generate; False where it has
            nothing to do either.
    """
    waiting: deque[list[tuple[Spec, Draw, Future[Sample]]]] = deque()

    def finished() -> Iterator[tuple[Spec, Draw, Sample]]:
        for one, draw, future in waiting.popleft():
            with CLOCK.measure("wait for labels"):
                sample = future.result()
            yield one, draw, sample

    for batch in batches:
        waiting.append(
            [
                (one, draw, pool.submit(light_sample, draw, labelling, recipe.required(one.present)))
                for one, draw in batch
            ]
        )
        if len(waiting) > 1:
            yield from finished()
    while waiting:
        while not all(future.done() for _, _, future in waiting[0]) and meanwhile():
            pass
        yield from finished()


def light_sample(draw: Draw, labelling: Labelling, required: tuple[str, ...]) -> Sample:
    """`make_sample` with probabilities in float16: they travel, and a shard keeps all samples until it is committed."""
    sample = make_sample(draw, labelling, required)
    return replace(sample, prob=sample.prob.astype(np.float16))


def describe(one: Spec, scores: dict[str, float]) -> Row:
    """The line of a sample in ``meta``: all it takes to make it again."""
    return {
        "key": one.key,
        "index": one.index,
        "prompt": one.prompt,
        "negative_prompt": one.negative_prompt,
        "phrases": one.phrases,
        "present": one.present,
        "seed": one.seed,
        "attempt": one.attempt,
        "split": one.split,
        "fields": one.fields,
        "control": one.control,
        **imposed_findings(one),
        "scores": {name: round(float(value), 5) for name, value in scores.items()},
    }


def imposed_findings(one: Spec) -> Row:
    """``findings`` that were inpainted, as ingested images have them: the prompt does not name them."""
    words = [str(item["finding"]) for item in (one.control or {}).get("findings", []) if item["label"]]
    return {"findings": ", ".join(dict.fromkeys(words))} if words else {}


def versions() -> dict[str, str]:
    """Versions of the packages that decide the bytes of an image."""
    found = {}
    for package in ("cxrsynth", "torch", "diffusers", "transformers", "numpy", "pydensecrf2"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "?"
    return found
