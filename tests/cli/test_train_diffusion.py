"""train-diffusion --base and merge-adapter, as commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import cli
from tests.tiny import build
from tests.train.images import make

SMALL = ["training.updates=2", "training.batch=2", "training.validation_images=0", "training.sheet_prompts=[]"]
SMALL.append("what.unet=lora")
SETS = [word for value in SMALL for word in ("--set", value)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and a base."""
    root = tmp_path_factory.mktemp("place")
    make(root / "images")
    build(root / "sd", gray=False)
    return root


def test_an_adapter_is_trained_and_merged_by_commands(place: Path) -> None:
    trained = cli("train-diffusion", "--data", "images", "--base", "./sd", "-o", "run", *SETS, "--json", cwd=place)
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    assert result["updates"] == 2
    assert result["images"] == {"train": 6, "val": 0, "left_out": {}}
    assert "--base ./sd" in (place / "run/model/README.md").read_text()
    merged = cli("merge-adapter", result["adapter"], "--base", "./sd", "-o", "merged", cwd=place)
    assert merged.returncode == 0, merged.stderr
    assert (place / "merged/model_index.json").exists()
    assert (place / "merged/README.md").read_text() == (place / "run/model/README.md").read_text()


def test_two_processes_train_one_model(place: Path) -> None:
    launcher = place / "cxrsynth"
    launcher.write_text("from cxrsynth.cli import main\nif __name__ == '__main__':\n    main()\n")
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    words = ["train-diffusion", "images", "--base", "./sd", "-o", "both", "--device", "cpu", "--json", *SETS]
    done = subprocess.run(
        [*launch, "--mixed_precision", "no", "--dynamo_backend", "no", str(launcher), *words],
        cwd=place,
        env={**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["updates"] == 2  # one of the two speaks
    assert len((place / "both/diffusion_log.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["images", "-o", "none", "--recipe", "recipes/train/roentgen.yaml"], "add --base"),
        (["-o", "none", "--base", "./sd"], "name a dataset"),
        (["images", "-o", "none", "--base", "./nothing"], "does not exist"),
        (["images", "-o", "none", "--base", "./sd", "--set", "training.stepps=3"], "unknown key"),
        (["images", "-o", "none", "--base", "./sd", "--set", "what.unet=frozen"], "nothing would train"),
    ],
)
def test_a_command_that_cannot_be_carried_out_says_why_and_writes_nothing(
    words: list[str], said: str, place: Path
) -> None:
    done = cli("train-diffusion", *words, cwd=place)
    assert done.returncode in (2, 4)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert not (place / "none").exists()
