"""Kill a command at any of its steps that change a file, then run it again: the result is as if nothing had been."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cxrsynth.errors import CxrError
from cxrsynth.export import export
from cxrsynth.factory.plan import make_plan
from cxrsynth.factory.run import run as generate
from cxrsynth.factory.verify import verify
from cxrsynth.files import write_atomic
from cxrsynth.ingest.convert import ingest
from cxrsynth.ingest.folder import Folder
from cxrsynth.lock import writing
from cxrsynth.recipe import parse
from tests.conftest import phantom_body, tree
from tests.fuzz.judge import Ended, LateError, leaks, within
from tests.fuzz.world import SMALL, Place, World

# What Python tells its audit hooks of every change of a file.
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "shutil.rmtree")
MOST = 80  # steps among which one is drawn; these works have about so many

Work = Callable[[Place], object]


def made(place: Place) -> None:
    plan = make_plan(parse(phantom_body(**SMALL)), place.out / "d")
    generate(replace(plan, job=replace(plan.job, labellers=0)))


def trained(place: Place) -> None:
    """A training with a checkpoint after every update; its weights become a file."""
    from tests.train.test_loop import CONFIG, Line, run, weights

    often = CONFIG.model_copy(update={"updates": 3, "checkpoint_minutes": 1e-9})
    with writing(place.out / "d"):
        done = run(Line(), place.out / "d", often)
        write_atomic(place.out / "d/weights.bin", weights(done.network).numpy().tobytes())


WORKS: dict[str, Work] = {
    "train": trained,
    "generate": made,
    "ingest": lambda place: ingest(Folder(place.given / "raw"), place.out / "d", 64),
    "export": lambda place: export(place.given / "made", "yolo", place.out / "d"),
}


def kill(rng: random.Random, world: World, seed: int, limit: float) -> Ended:
    """Kill a work at a step that is drawn, perhaps a second time, and let it end."""
    name = rng.choice(list(WORKS))
    steps = [rng.randrange(1, MOST) for _ in range(rng.choice([1, 1, 2]))]
    ended = Ended(["kill", name, *map(str, steps)], 0)
    place = world.place(seed, "raw", "made")
    WORKS[name](place)
    wanted = result(place.out / "d")
    shutil.rmtree(place.out)
    place.out.mkdir()
    for step in steps:
        if not killed(lambda: WORKS[name](place), step, limit):
            ended.findings.append("hang: the killed work does not end")
    try:
        with within(limit):
            WORKS[name](place)
    except LateError:
        ended.findings.append("hang: the work that was killed before is not done")
    except CxrError as error:
        ended.findings.append(f"does not go on: {error.message}")
    else:
        found = result(place.out / "d")
        other = sorted(path for path in {*wanted, *found} if wanted.get(path) != found.get(path))
        ended.findings += [f"another result: {', '.join(other[:5])}"] if other else []
        if name in ("generate", "ingest"):
            ended.findings += [f"verify: {problem.path}: {problem.what}" for problem in verify(place.out / "d")]
    ended.findings += leaks(place.out)
    return ended


def result(out: Path) -> dict[str, bytes]:
    """The files of a result but what a training keeps to go on from."""
    state = (".ckpt", ".before", "_curves.png")
    return {name: data for name, data in tree(out).items() if not name.endswith(state)}


def killed(work: Callable[[], object], step: int, limit: float) -> bool:
    """Do a work in a child that is killed at its ``step``-th change of a file; False where it does not end."""
    child = os.fork()
    if child == 0:
        try:
            left = step

            def hook(event: str, args: tuple[Any, ...]) -> None:
                nonlocal left
                writes = event == "open" and len(args) > 2 and isinstance(args[2], int) and args[2] & os.O_ACCMODE
                if event in CHANGES or writes:
                    left -= 1
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            torch.set_num_threads(1)  # those of the parent are not there to be waited for
            work()
        finally:
            os._exit(0)
    deadline = time.monotonic() + limit
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.002)
    return True
