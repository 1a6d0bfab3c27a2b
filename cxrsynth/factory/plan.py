"""The plan of a run: everything that can be wrong and is cheap to find out, before a model is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from cxrsynth import recipe as recipes
from cxrsynth import weights
from cxrsynth.errors import DiskFull, MismatchError, MissingError, UsageError
from cxrsynth.factory.prompts import spec
from cxrsynth.factory.shard import Job
from cxrsynth.lock import refuse_address
from cxrsynth.recipe import Recipe
from cxrsynth.store import Store

Resume = Literal["auto", "always", "never"]
NO_WEIGHTS = ("phantom",)
# Prompts whose tokens are remembered while they are counted.
KNOWN = 10_000


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
    refuse_address(out)
    found = weights_of(recipe, offline)
    digest = "" if found is None else found.digest
    print_ = recipes.fingerprint(recipe, digest)
    store = Store(out)
    _check_owner(store, recipe, digest, resume)
    part_index, parts = part
    shards = [shard for shard in range(recipe.shards) if shard % parts == part_index]
    done = [shard for shard in shards if store.is_done(shard, print_, recipe.shard_keys(shard))]
    there = set(done)
    todo = [shard for shard in shards if shard not in there]
    slots = sum(len(recipe.shard_indices(shard)) for shard in todo)
    job = Job(recipe, print_, out.absolute(), None if found is None else found.path, device, uuid4().hex)
    needed = slots * bytes_per_sample(job)
    free = _free(out)
    if needed > free:
        raise DiskFull(
            f"{slots} samples need about {mib(needed)}, {mib(free)} are free on the disk of {out}",
            "free some space, choose another disk with -o, or lower --count",
        )
    if todo:
        spec(recipe, 0)  # an unreadable prompt file is said before a model is loaded
    return Plan(job, recipes.identity(recipe, digest), todo, done, slots, needed, free)


def weights_of(recipe: Recipe, offline: bool) -> weights.Weights | None:
    """The weights a recipe needs, or None for a generator without."""
    if recipe.generator in NO_WEIGHTS:
        return None
    return find_weights(recipe.model, recipe.base, recipe.lora, offline)


def find_weights(
    model: str, base: str | None = None, lora: Sequence[str] | None = None, offline: bool = False
) -> weights.Weights:
    """A model as recipes and commands name it, see `cxrsynth.nets.assemble.find`; a whole one is found at once."""
    path = Path(model).expanduser()
    whole = not path.is_file() and (not path.is_dir() or (path / "model_index.json").exists())
    if whole and base is None and not lora:
        return weights.resolve(model, offline=offline)
    from cxrsynth.nets.assemble import find

    return find(model, base, lora or (), offline)


def check_prompts(plan: Plan) -> int:
    """Refuse a model whose parts do not fit, and prompts over its token limit; loads tokenizers only.

    Returns:
        how many different prompts will be cut, where ``prompts.too_long`` says so.

    Raises:
        MissingError: no adapter knows the model's family, or its parts do not fit each other.
        RecipeError: naming the prompt and its token count.
    """
    recipe = plan.job.recipe
    if plan.job.model is None or not plan.todo:
        return 0
    from cxrsynth.nets import families

    specs = (spec(recipe, index) for shard in plan.todo for index in recipe.shard_indices(shard))
    texts = (text for one in specs for text in (one.prompt, one.negative_prompt))
    imposed = sorted(recipe.control.prompts()) if recipe.control else ()
    words = families.family_of(plan.job.model).words(plan.job.model)
    tokens = lru_cache(maxsize=KNOWN)(words.tokens)  # templates repeat themselves, a long list does not
    cut: set[str] = set()
    for text in chain(imposed, texts):
        if tokens(text) > words.limit:
            if recipe.prompts.too_long != "cut":
                words.check_tokens([text])
            cut.add(text)
    return len(cut)


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
    stored = store.identity()["identity"]
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


def bytes_per_sample(job: Job) -> int:
    """About how much a sample takes on disk: image, mask, maps, its share of meta, receipt and report."""
    side = 256 if job.model is None else _native_side(job.model)
    sampler = job.recipe.sampler
    pixels = (sampler.height or side) * (sampler.width or side)
    maps = len(job.recipe.classes) * pixels // 64 * 2 + _reads(job.recipe, pixels) if job.recipe.masks.keep_maps else 0
    return pixels + pixels // 8 + maps + 4096


def _reads(recipe: Recipe, pixels: int) -> int:
    """Bytes of what the chain asks of the network: a number for each pair of places, and the mask heads' half grid."""
    asked = recipe.asked()
    pairs = sum((pixels // 64 // level**2) ** 2 for level in asked.levels)
    return 2 * pairs + len(asked.heads) * len(recipe.classes) * pixels // 4 * 2


def _native_side(model: Path) -> int:
    """Side of the images a model was trained on, from its configs."""
    part = next((name for name in weights.DENOISERS if (model / name / "config.json").exists()), "unet")
    denoiser = weights.read_json(model / part / "config.json")
    vae = weights.read_json(model / "vae" / "config.json")
    side = denoiser.get("sample_size") or 64
    blocks = vae.get("block_out_channels") or vae.get("encoder_block_out_channels") or ()
    try:
        return int(side if isinstance(side, int) else max(side)) * 2 ** (len(blocks) - 1)
    except (TypeError, ValueError) as error:
        raise MissingError(f"a config of {model} holds a value of another kind: {error}", "copy it again") from error


def _free(out: Path) -> int:
    existing = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    return shutil.disk_usage(existing).free


def mib(size: int) -> str:
    """Bytes as people say them."""
    return f"{size / 2**20:.0f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"
