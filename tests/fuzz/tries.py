"""The kinds of attack. Each takes a generator, a fresh place and a time limit, and gives back what must not be."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import yaml

from cxrsynth.encoding import dumps, file_sha256
from cxrsynth.errors import CxrError
from cxrsynth.factory.verify import verify
from cxrsynth.ingest.folder import SUFFIXES
from tests.fuzz import awkward
from tests.fuzz.judge import Ended, changes, leaks, run, snapshot
from tests.fuzz.kills import kill
from tests.fuzz.world import Place, World, strike

Attack = Callable[[random.Random, World, int, float], list[Ended]]


def attacked(
    rng: random.Random, place: Place, commands: list[list[object]], limit: float, written: tuple[Path, ...] = ()
) -> list[Ended]:
    """Run commands in a damaged place; nothing but ``out`` and ``written`` may change."""
    allowed = (place.out, *written)
    before = snapshot(place.root, allowed)
    found = []
    for words in commands:
        with contextlib.chdir(place.given):
            ended = run(words, limit)
        changed = changes(before, snapshot(place.root, allowed))
        if changed:
            ended.findings.append(f"changed outside its folder: {', '.join(changed[:5])}")
            before = snapshot(place.root, allowed)
        ended.findings += leaks(place.out)
        found.append(ended)
    return found


def strikes(rng: random.Random, *folders: Path) -> None:
    """One to three damages."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        with contextlib.suppress(OSError):  # a name that is too long here, a file that an earlier one made a folder
            strike(rng, rng.choice(folders))


def images(rng: random.Random, world: World, seed: int, limit: float) -> list[Ended]:
    """Radiographs, masks and tables of a user -> ``ingest``; every picture is kept or refused."""
    place = world.place(seed, "raw")
    strikes(rng, place.given / "raw")
    more = ["--size", 64, "--polarity", rng.choice(["auto", "keep"])]
    found = attacked(rng, place, [["ingest", place.given / "raw", "-o", place.out / "d", *more]], limit)
    if found[0].code == 0:
        found[0].findings += lost(place.given / "raw", place.out / "d") + whole(place.out / "d")
    return found


def lost(raw: Path, out: Path) -> list[str]:
    """Pictures that are neither kept nor refused nor counted."""
    summary = json.loads((out / "summary.json").read_text())
    folder = raw / "images" if (raw / "images").is_dir() else raw
    there = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    there = [path for path in there if path.is_symlink() or not path.is_dir()]
    there = [path for path in there if folder != raw or "masks" not in path.relative_to(raw).parts]
    told = summary["kept"] + len(summary["refused"])
    return [f"lost: {len(there)} pictures, {told} kept or refused"] if told < len(there) else []


def whole(out: Path) -> list[str]:
    """What `verify` says of a dataset that a command says is done."""
    try:
        return [f"verify: {problem.path}: {problem.what}" for problem in verify(out)][:3]
    except CxrError as error:
        return [] if "no finished shard" in error.message else [f"verify: {error.message}"]


def recipes(rng: random.Random, world: World, seed: int, limit: float) -> list[Ended]:
    """A recipe with strange values -> ``check``, then ``generate`` where that agrees."""
    place = world.place(seed, "recipe.yaml", "prompts.csv")
    path = place.given / "recipe.yaml"
    body = yaml.safe_load(path.read_text())
    if rng.random() < 0.3:
        body["prompts"] = {"csv": "prompts.csv"}
        strikes(rng, place.given) if rng.random() < 0.7 else None
    for _ in range(rng.choice([1, 1, 2])):
        body = awkward.mutated(rng, body)
    if path.is_file():
        with contextlib.suppress(yaml.YAMLError, RecursionError):
            path.write_text(yaml.safe_dump(body, allow_unicode=True), errors="surrogateescape")
    changed: list[object] = ["--count", 3] if rng.random() < 0.9 else []
    found = attacked(rng, place, [["check", path, "-o", place.out / "d", *changed]], limit)
    if found[0].code == 0 and changed:
        found += attacked(rng, place, [["generate", "-p", path, "-o", place.out / "d", *changed]], limit)
        found[1].findings += failures(place.out / "d")
        if found[1].code == 0:
            found[1].findings += whole(place.out / "d")
    return found


def failures(out: Path) -> list[str]:
    """Errors inside shards: what a user wrote is refused before."""
    told = []
    for path in out.glob("failures/*.json"):
        told.append(f"shard failed: {json.loads(path.read_text())['traceback'][-2000:]}")
    return told


def datasets(rng: random.Random, world: World, seed: int, limit: float) -> list[Ended]:
    """A dataset that was tampered with, its receipts made to agree or not -> the commands that read datasets."""
    name = rng.choice(["made", "made", "ingested"])
    place = world.place(seed, name, "recipe.yaml")
    data = place.given / name
    strikes(rng, data)
    if rng.random() < 0.5:
        agree(data)
    out = place.out / "d"
    ways: list[list[object]] = [
        ["verify", data],
        ["status", data],
        ["report", data],
        ["export", data, "--to", rng.choice(["yolo", "coco", "hf", "monai", "nnunet", "webdataset"]), "-o", out],
        ["refine", data, "-o", out],
        ["simulate", data, "-o", out, "-n", 2],
        ["evaluate", "masks", data, data],
        ["evaluate", "masks", data / "masks", data],
        ["ingest", data / "images", "-o", out, "--size", 64],
        ["generate", "-p", place.given / "recipe.yaml", "-o", data],
        ["generate", "-p", data / "recipe.yaml", "-o", out, "--count", 3],
    ]
    return attacked(rng, place, rng.sample(ways, 2), limit, (data,))


def agree(data: Path) -> None:
    """Write what the files are now into the receipts, as somebody would who hides a change."""
    for path in [path for path in (data / "shards").glob("*.json") if path.is_file()]:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            body = json.loads(path.read_text())
            for relative in body["files"]:
                file = data / relative
                if file.is_file() and not file.is_symlink():
                    body["files"][relative] = {"sha256": file_sha256(file), "size": file.stat().st_size}
            path.write_bytes(dumps(body))


def models(rng: random.Random, world: World, seed: int, limit: float) -> list[Ended]:
    """A model whose files were damaged or mixed -> ``preview``."""
    place = world.place(seed, "model", "recipe.yaml")
    strikes(rng, place.given / "model")
    few = ["--set", "generator=latent", "--set", "sampler={num_inference_steps: 2, batch: 1}"]
    few += ["--set", "attention.levels=[1, 2]", "--offline"]
    words = ["preview", place.given / "recipe.yaml", "-n", 1, "--model", place.given / "model", *few]
    return attacked(rng, place, [[*words, "-o", place.out / "p.png"]], limit)


def options(rng: random.Random, world: World, seed: int, limit: float) -> list[Ended]:
    """Strange words for options and arguments of commands that are quickly over."""
    place = world.place(seed, "raw", "made", "recipe.yaml")
    data, recipe, out = place.given / "made", place.given / "recipe.yaml", place.out / "d"

    def word() -> str:
        drawn = rng.choice([*awkward.TEXTS, *map(str, awkward.NUMBERS)])
        return drawn.replace("\0", "")

    key = rng.choice(["count", "sampler.batch", "classes.0.id", "masks.refine", "prompts", "split.train", "x.y"])
    ways: list[list[object]] = [
        ["check", recipe, "--set", f"{key}={word()}"],
        ["check", recipe, "--count", word()],
        ["check", word()],
        ["generate", "-p", recipe, "-o", out, "--dry-run", "--shard", word()],
        ["generate", "-p", recipe, "-o", out, "--dry-run", "--engine", word()],
        ["generate", "-p", recipe, "-o", out, "--device", word()],
        ["generate", "-p", recipe, "-o", out, "--model", word(), "--set", "generator=latent", "--offline"],
        ["preview", recipe, "-n", word(), "-o", place.out / "p.png"],
        ["export", data, "--to", word(), "-o", out],
        ["export", data, "--to", "yolo", "-o", out, "--classes", word()],
        ["ingest", place.given / "raw", "-o", out, "--size", word()],
        ["ingest", place.given / "raw", "-o", out, "--layout", word()],
        ["simulate", data, "-o", out, "-n", 1, "--finding", word()],
        ["simulate", data, "-o", out, "-n", 1, "--region", word()],
        ["simulate", data, "-o", out, "-n", 1, "--set", f"effusion.severity={word()}"],
        ["simulate", data, "-o", out, "-n", 10**12, "--finding", "effusion"],
        ["refine", data, "-o", out, "--set", f"masks.refine={word()}"],
        ["evaluate", "masks", data, word()],
        ["evaluate", "masks", data, data, "--split", word()],
        ["info", "--model", word()],
        ["new", word(), place.out / "new.yaml"],
        ["status", word()],
        ["verify", place.given / word()],
        ["control", word(), "-o", place.out / "c.png", "--offline"],
        ["merge-adapter", word(), "--base", word(), "-o", out, "--offline"],
        ["compare", "-r", recipe, "-o", out],
        [word(), word()],
        ["--" + word()],
    ]
    return attacked(rng, place, rng.sample(ways, 2), limit)


def kills(rng: random.Random, world: World, seed: int, limit: float) -> list[Ended]:
    """Work that is killed while it changes a file -> the same work again; see `kill`."""
    return [kill(rng, world, seed, limit)]


# Kind -> how often, next to the others.
KINDS: dict[str, tuple[Attack, int]] = {
    "images": (images, 25),
    "recipes": (recipes, 20),
    "datasets": (datasets, 30),
    "options": (options, 25),
    "models": (models, 8),
    "kills": (kills, 12),
}


def attack(seed: int, world: World, limit: float, kind: str = "") -> tuple[str, list[Ended]]:
    """The attack that belongs to a seed; the kind is drawn too unless it is given."""
    rng = random.Random(seed)
    drawn = rng.choices(list(KINDS), [weight for _, weight in KINDS.values()])[0]
    name = kind or drawn
    return name, KINDS[name][0](rng, world, seed, limit)
