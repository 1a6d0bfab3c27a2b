"""A run: check what is cheap to check, plan, skip what is done, drive the engine, and leave a log of it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import yaml
from filelock import FileLock, Timeout

from cxrsynth import recipe as recipes
from cxrsynth import registry, weights
from cxrsynth.errors import DiskFull, MismatchError, UsageError
from cxrsynth.prompts import spec
from cxrsynth.recipe import Recipe
from cxrsynth.records import Failure, Receipt
from cxrsynth.shard import Advance, Job
from cxrsynth.store import Store, dumps, write_atomic

Resume = Literal["auto", "always", "never"]
NO_WEIGHTS = ("phantom",)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is going to do, found out without loading a model.

    Attributes:
        job: what the workers are told.
        identity: everything that decides the bytes of a sample; the fingerprint is its sha256.
        todo: shards to make.
        done: shards that are there already.
        slots: slots of the shards in ``todo``.
        needed: bytes they are expected to take.
        free: bytes free on the disk.
    """

    job: Job
    identity: dict[str, Any]
    todo: list[int]
    done: list[int]
    slots: int
    needed: int
    free: int


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
    seconds: float = 0.0
    seconds_to_first_shard: float = 0.0

    def add(self, receipt: Receipt) -> None:
        """Count a finished shard."""
        self.planned += len(receipt.planned)
        self.kept += len(receipt.keys)
        self.missing += len(receipt.planned) - len(receipt.keys)
        for reason, times in receipt.rejects.items():
            self.rejected[reason] = self.rejected.get(reason, 0) + times


def make_plan(
    recipe: Recipe,
    out: Path,
    *,
    device: str = "auto",
    resume: Resume = "auto",
    offline: bool = False,
    part: tuple[int, int] = (0, 1),
) -> Plan:
    """Everything that can be wrong and is cheap to find out, in order of cost.

    Raises:
        MissingError: weights are missing, damaged, or would have to be downloaded offline.
        RecipeError: prompts that cannot be made, or are over the token limit.
        MismatchError: OUT holds the dataset of another recipe; the message shows the difference.
        UsageError: OUT cannot be written, or --resume forbids it.
        DiskFull: the dataset will not fit; the message says how much is needed.
    """
    found = weights_of(recipe, offline)
    digest = "" if found is None else found.digest
    print_ = recipes.fingerprint(recipe, digest)
    store = Store(out)
    _check_owner(store, recipe, digest, resume)
    part_index, parts = part
    shards = [shard for shard in range(recipe.shards) if shard % parts == part_index]
    done = [shard for shard in shards if store.is_done(shard, print_, recipe.shard_keys(shard))]
    todo = [shard for shard in shards if shard not in set(done)]
    slots = sum(len(recipe.shard_indices(shard)) for shard in todo)
    needed = slots * _bytes_per_sample(recipe)
    free = _free(out)
    if needed > free:
        raise DiskFull(
            f"{slots} samples need about {_mib(needed)}, {_mib(free)} are free on the disk of {out}",
            "free some space, choose another disk with -o, or lower --count",
        )
    if todo:
        spec(recipe, 0)  # an unreadable prompt file is said before a model is loaded
    job = Job(recipe, print_, out.absolute(), None if found is None else found.path, device, uuid4().hex)
    return Plan(job, recipes.identity(recipe, digest), todo, done, slots, needed, free)


def weights_of(recipe: Recipe, offline: bool) -> weights.Weights | None:
    """The weights a recipe needs, or None for a generator without."""
    return None if recipe.generator in NO_WEIGHTS else weights.resolve(recipe.model, offline=offline)


def check_prompts(plan: Plan) -> None:
    """Refuse prompts over the token limit before any is drawn; loads the tokenizer only.

    Raises:
        RecipeError: naming the prompt and its token count.
    """
    recipe = plan.job.recipe
    if plan.job.model is None or not plan.todo:
        return
    from cxrsynth.generate.latent import check_tokens, load_tokenizer

    prompts = {spec(recipe, index).prompt for shard in plan.todo for index in recipe.shard_indices(shard)}
    check_tokens(load_tokenizer(plan.job.model), sorted(prompts | {recipe.negative_prompt}))


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
        CxrError: an error the user has to mend; finished shards stay.
    """
    job, store = plan.job, Store(plan.job.out)
    drive = registry.load("engines", engine)(**(engine_options or {}))
    started = time.monotonic()
    summary = Summary(str(job.out), job.fingerprint, shards_skipped=len(plan.done))
    for shard in plan.done:
        receipt = store.receipt(shard)
        if receipt is not None:
            summary.add(receipt)
    with locked(job.out, part), _shown_to_workers(job):
        claim(store, job.recipe, job.fingerprint, plan.identity)
        for result in drive(plan.todo, job, advance) if plan.todo else ():
            if isinstance(result, Failure):
                store.write_failure(result)
                summary.failed.append(result.shard)
                summary.missing += len(job.recipe.shard_indices(result.shard))
                summary.planned += len(job.recipe.shard_indices(result.shard))
            else:
                summary.add(result)
                summary.shards_made += 1
                summary.samples_made += len(result.keys)
                if summary.shards_made == 1:
                    summary.seconds_to_first_shard = round(time.monotonic() - started, 2)
            if on_shard is not None:
                on_shard(result)
        summary.seconds = round(time.monotonic() - started, 2)
        if summary.shards_made or summary.failed:
            stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
            log = {**asdict(summary), "started": stamp, "host": os.uname().nodename, "engine": engine}
            store.write(f"runs/{stamp}-{job.nonce[:6]}.json", dumps(log))
    return summary


@contextmanager
def locked(out: Path, part: tuple[int, int]) -> Iterator[None]:
    """Hold the folder, or this part of it, against a second run.

    Raises:
        UsageError: somebody else holds it.
    """
    lock = FileLock(out / (".lock" if part[1] == 1 else f".lock-{part[0]}-of-{part[1]}"))
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(f"another run is writing to {out}", "wait for it, or choose another folder with -o") from error
    except OSError as error:
        raise UsageError(
            f"cannot write to {out}: {error.strerror or error}", "choose another folder with -o"
        ) from error
    try:
        yield
    finally:
        lock.release()


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
    known = _stored_recipe(store)
    # A smaller count asks for less than there is; the folder keeps the larger claim.
    resolved["count"] = max(recipe.count, int(known.get("count", 0)) if known else 0)
    head = f"# Written by cxrsynth: every default filled in. Fingerprint {fingerprint[:12]}.\n"
    store.write(
        "recipe.yaml", (head + yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True, width=120)).encode()
    )
    classes = [item.model_dump(mode="json") for item in recipe.classes]
    store.write("classes.json", dumps({"background": 0, "ignore": 255, "classes": classes}))


def _stored_recipe(store: Store) -> dict[str, Any] | None:
    path = store.root / "recipe.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


def _check_owner(store: Store, recipe: Recipe, digest: str, resume: Resume) -> None:
    path = store.root / "identity.json"
    if not path.exists():
        if resume == "always":
            raise UsageError(f"nothing to resume in {store.root}", "leave --resume away, or point -o to the dataset")
        if store.root.is_dir() and any(entry.name[0] != "." for entry in store.root.iterdir()):
            raise MismatchError(
                f"{store.root} is not empty and holds no cxrsynth dataset", "choose another folder with -o"
            )
        return
    if resume == "never":
        raise UsageError(
            f"{store.root} holds a dataset already", "choose another folder with -o, or leave --resume never away"
        )
    stored = json.loads(path.read_text())["identity"]
    wanted = json.loads(json.dumps(recipes.identity(recipe, digest)))
    if stored != wanted:
        changes = "\n  ".join(difference(stored, wanted))
        raise MismatchError(
            f"{store.root} was made by another recipe:\n  {changes}",
            "choose another folder with -o, or undo the change; nothing was touched",
        )


def difference(old: Any, new: Any, place: str = "") -> list[str]:
    """``a.b: 4 -> 8`` for every value that differs between two nested mappings."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted({*old, *new})
            for line in difference(old.get(key), new.get(key), f"{place}.{key}".lstrip("."))
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            line for i, (a, b) in enumerate(zip(old, new, strict=True)) for line in difference(a, b, f"{place}.{i}")
        ]
    return [] if old == new else [f"{place}: {json.dumps(old)} -> {json.dumps(new)}"]


def _bytes_per_sample(recipe: Recipe) -> int:
    pixels = (recipe.sampler.height or 512) * (recipe.sampler.width or 512)
    maps = len(recipe.classes) * pixels // 64 * 2 if recipe.masks.keep_maps else 0
    return pixels + pixels // 8 + maps + 4096


def _free(out: Path) -> int:
    existing = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    return shutil.disk_usage(existing).free


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"
