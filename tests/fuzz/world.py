"""What is attacked: one valid example of everything that commands read, and copies of it to damage."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from cxrsynth.factory.plan import make_plan
from cxrsynth.factory.run import run
from cxrsynth.ingest.convert import ingest
from cxrsynth.ingest.folder import Folder
from cxrsynth.recipe import parse
from tests.conftest import phantom_body
from tests.fuzz import awkward
from tests.fuzz.judge import SECRET, threads_for_processes

SMALL: dict[str, Any] = {
    "count": 3, "shard": 2, "sampler": {"height": 64, "width": 64, "batch": 2}, "masks": {"refine": ["morphology"]},
    "curate": {"checks": ["finite"], "attempts": 1},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """The surroundings of one attack.

    Attributes:
        root: all of it.
        given: copies of the examples, to be damaged.
        out: the only folder that may be written to.
    """

    root: Path

    @property
    def given(self) -> Path:
        return self.root / "in"

    @property
    def out(self) -> Path:
        return self.root / "out"


class World:
    """Examples, made once: ``raw`` images with masks and tables, ``made`` and ``ingested`` datasets, a recipe.

    Args:
        root: folder to work in.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.examples = root / "examples"
        self._raw(self.examples / "raw")
        (self.examples / "recipe.yaml").write_text(yaml.safe_dump(phantom_body(**SMALL)))
        (self.examples / "prompts.csv").write_text('prompt,view\n"chest x-ray, PA",PA\nchest x-ray,AP\n')
        with threads_for_processes():
            run(make_plan(parse(phantom_body(**SMALL)), self.examples / "made"))
        ingest(Folder(self.examples / "raw"), self.examples / "ingested", 64)
        for path in self.examples.rglob(".lock*"):
            path.unlink()

    def _raw(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        (folder / "images" / "p2").mkdir(parents=True)
        (folder / "masks").mkdir()
        names = ["a.png", "b.png", "p2/a.png", "c.jpg", "d.tif"]
        for name in names:
            picture = np.add.outer(np.linspace(20, 200, 72), np.linspace(0, 40, 64)) + rng.normal(0, 5, (72, 64))
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / "images" / name)
        mask = np.zeros((72, 64), np.uint8)
        mask[10:50, 5:28], mask[10:50, 36:60] = 1, 2
        Image.fromarray(mask).save(folder / "masks" / "b.png")
        lines = [f"{name},patient{number},train,Normal chest." for number, name in enumerate(names)]
        (folder / "metadata.csv").write_text("\n".join(["file,patient,split,caption", *lines]) + "\n")
        classes = [{"id": 1, "name": "right_lung", "phrase": "right lung"}, {"id": 2, "name": "left_lung"}]
        (folder / "classes.json").write_text(json.dumps(classes))

    @property
    def model(self) -> Path:
        """A tiny diffusion model; made when it is first asked for, for that takes some seconds."""
        folder = self.examples / "model"
        if not folder.is_dir():
            from tests.tiny import build

            build(folder)
        return folder

    def place(self, seed: int, *names: str) -> Place:
        """A fresh copy of some examples, beside something that nobody may touch."""
        place = Place(self.root / f"try-{seed}")
        shutil.rmtree(place.root, ignore_errors=True)
        place.given.mkdir(parents=True)
        place.out.mkdir()
        (place.root / "victim").mkdir()
        (place.root / "victim/precious.txt").write_text(SECRET)
        for name in names:
            source = self.model if name == "model" else self.examples / name
            if source.is_dir():
                shutil.copytree(source, place.given / name, symlinks=True)
            else:
                shutil.copy(source, place.given / name)
        return place


def files(folder: Path) -> list[Path]:
    """Ordinary files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def strike(rng: random.Random, folder: Path) -> None:
    """Damage one file of a folder: its bytes, what they mean, its name, or what stands in its place."""
    found = files(folder)
    if not found:
        return
    path = rng.choice(found)
    rng.choice([_bytes, _bytes, _meaning, _meaning, _meaning, _kind, _name, _double])(rng, path)


def _bytes(rng: random.Random, path: Path) -> None:
    path.write_bytes(awkward.damaged(rng, path.read_bytes()))


def _meaning(rng: random.Random, path: Path) -> None:
    """Text that can still be read says something else."""
    try:
        if path.suffix == ".json":
            path.write_bytes(awkward.json_text(awkward.mutated(rng, json.loads(path.read_text()))))
        elif path.suffix == ".jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            path.write_bytes(b"\n".join(map(awkward.json_text, awkward.mutated(rng, rows) or [])) + b"\n")
        elif path.suffix == ".yaml":
            path.write_text(yaml.safe_dump(awkward.mutated(rng, yaml.safe_load(path.read_text()))))
        elif path.suffix == ".csv":
            cells = [line.split(",") for line in path.read_text().splitlines()]
            row = rng.choice(cells)
            row[rng.randrange(len(row))] = rng.choice(awkward.TEXTS)
            path.write_text("\n".join(",".join(line) for line in cells), errors="surrogateescape")
        else:
            _bytes(rng, path)
    except (ValueError, TypeError, RecursionError, yaml.YAMLError):  # damaged before
        _bytes(rng, path)


def _kind(rng: random.Random, path: Path) -> None:
    """Something else stands where a file was."""
    path.unlink()
    kinds: list[Callable[[], object]] = [
        lambda: None,
        lambda: os.mkfifo(path),
        path.mkdir,
        lambda: path.symlink_to("nowhere"),
        lambda: path.symlink_to(path.name),
        lambda: path.symlink_to(path.parent),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to(Path(os.path.relpath(_root(path) / "victim/precious.txt", path.parent))),
    ]
    rng.choice(kinds)()


def _root(path: Path) -> Path:
    return next(parent for parent in path.parents if (parent / "victim").is_dir())


def _name(rng: random.Random, path: Path) -> None:
    """A file has a name that people do not think of, and perhaps that of another."""
    names = [
        os.fsdecode(b"\xff\xfe.png"), "ä.png", "a\u0308.png", "A.PNG", "x" * 240 + ".png", " .png", "-o.png", "con.png",
        "a\nb.png", "[b].png", "._a.png", "a.dcm", "a.webp", "a", "\x1b[31m.png", "a.png.gz", "00000.json",
    ]  # fmt: skip
    path.rename(path.with_name(rng.choice(names)))


def _double(rng: random.Random, path: Path) -> None:
    copied = path.with_name(rng.choice([f"copy-{path.name}", path.name.upper(), f"{path.stem}.bmp", "00001.json"]))
    if not copied.exists():
        shutil.copy(path, copied)
