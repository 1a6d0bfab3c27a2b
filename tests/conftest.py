"""Shared by all tests: a tiny model, a tiny recipe, and the command line as a user calls it."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

# Before the first import of torch or rich: tests run side by side, one core each, and lines are not broken.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update({"NO_COLOR": "1", "COLUMNS": "200"})

import pytest
import yaml

from cxrsynth.recipe import Recipe, parse

# The same bits on every machine: a processor that has bfloat16 would take it.
os.environ["CXRSYNTH_DTYPE"] = "float32"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny gray Stable-Diffusion folder."""
    from tests.tiny import build

    return build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def fitted(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask head for the tiny model, fitted for a moment on a few synthetic chests. Tests only read it."""
    from cxrsynth.train.tasks.mask_head.config import MaskHeadConfig
    from cxrsynth.train.tasks.mask_head.training import train_mask_head
    from cxrsynth.weights import resolve
    from tests.train.chests import make

    folder = tmp_path_factory.mktemp("mask_head")
    config = MaskHeadConfig(updates=30, variants=2, batch=4, width=16, warmup=2, timesteps=(10,))
    train_mask_head(make(folder / "images"), folder / "fitted.safetensors", resolve(str(tiny)), config, device="cpu")
    return folder / "fitted.safetensors"


CLASSES = [
    {"name": "right_lung", "id": 1, "phrase": "right lung"},
    {"name": "left_lung", "id": 2, "phrase": "left lung"},
    {"name": "heart", "id": 3, "phrase": "heart"},
]


def phantom_body(**changes: Any) -> dict[str, Any]:
    """A small phantom recipe as a mapping."""
    body = {
        "name": "small",
        "count": 6,
        "shard": 3,
        "generator": "phantom",
        "classes": CLASSES,
        "prompts": {
            "templates": ["frontal chest x-ray, {heart}"],
            "vocabulary": {"heart": ["normal heart size", "cardiomegaly"]},
        },
        "sampler": {"height": 128, "width": 128, "batch": 2},
    }
    return {**body, **changes}


def latent_body(model: Path, **changes: Any) -> dict[str, Any]:
    """A recipe for a tiny model: two steps, no checks, so that random pictures are kept."""
    body = phantom_body(
        generator="latent",
        model=str(model),
        sampler={"num_inference_steps": 2, "batch": 2},
        attention={"levels": [1, 2]},
        masks={"refine": ["morphology"]},
        curate={"checks": [], "attempts": 1},
    )
    return {**body, **changes}


@pytest.fixture
def phantom_recipe() -> Recipe:
    """A small phantom recipe."""
    return parse(phantom_body())


@pytest.fixture
def write_recipe(tmp_path: Path) -> Any:
    """Write a mapping as a recipe file and return its path."""

    def write(body: dict[str, Any], name: str = "recipe.yaml") -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(body))
        return path

    return write


# Seconds that a process is waited for before a test gives up: far more than a slow and busy machine needs.
PATIENCE = 500


def cli(
    *arguments: Any, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Type ``cxrsynth`` in this process: exit code, stdout and stderr are those of the command."""
    from cxrsynth.cli import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    before = dict(os.environ)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["cxrsynth", *map(str, arguments)])
        if cwd is not None:
            patch.chdir(cwd)
        os.environ.update(env or {})
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            # Options put themselves into the environment for the processes they start.
            os.environ.clear()
            os.environ.update(before)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def cli_process(*arguments: Any, env: dict[str, str], timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """Type ``cxrsynth`` in a process of its own, where the environment has to be there before Python starts."""
    return subprocess.run(
        [sys.executable, "-c", "from cxrsynth.cli import main; main()", *map(str, arguments)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture(scope="session")
def phantom_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished dataset of six phantoms in two shards. Tests only read it."""
    from cxrsynth.factory.plan import make_plan
    from cxrsynth.factory.run import run

    out = tmp_path_factory.mktemp("data") / "small"
    run(make_plan(parse(phantom_body()), out))
    return out


@pytest.fixture(scope="session")
def plain_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that do not overlap. Tests only read it."""
    from tests.phantoms import make

    return make(tmp_path_factory.mktemp("export") / "plain")


@pytest.fixture(scope="session")
def layered_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two findings over the anatomy; ids with a gap. Tests only read it."""
    from tests.phantoms import layered

    return layered(tmp_path_factory.mktemp("export") / "layered")


def tree(root: Path) -> dict[str, bytes]:
    """Every file of a dataset but the logs of its runs and locks: relative path -> bytes."""
    files = (
        path
        for path in root.rglob("*")
        if path.is_file() and "runs" not in path.parts and not path.name.startswith(".lock")
    )
    return {str(path.relative_to(root)): path.read_bytes() for path in files}
