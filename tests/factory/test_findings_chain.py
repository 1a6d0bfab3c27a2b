"""`make benchmark-roentgen` in small: images from a program, a classifier of seconds, every command as it is typed."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from cxrsynth.cli import main
from cxrsynth.encoding import dumps
from cxrsynth.records import Entry
from cxrsynth.store import Store

TRAIN = {"encoder": "mobilenetv3_small_050", "size": 32, "batch": 4, "updates": 2, "warmup": 1}


def images(root: Path, count: int, drawn: bool) -> Path:
    """Images whose lower right corner is white with an effusion; synthetic ones have only the prompt to say so."""
    store = Store(root)
    store.write("classes.json", dumps({"classes": [{"id": 1, "name": "lung", "phrase": "lung"}]}))
    rng = np.random.default_rng(int(drawn))
    entries = []
    for number in range(count):
        view, sick = ("PA", "AP")[number % 2], number % 4 < 2
        image = rng.integers(90, 130, size=(64, 64)).astype(np.uint8)
        image[32:, 32:] = 240 if sick else image[32:, 32:]
        prompt = f"Frontal chest X-ray, {view} view, adult. Findings: {'effusion' if sick else 'no abnormality'}."
        known = {"source": "clinic", "patient": f"p{number}", "use": "open", "population": "adult", "view": view}
        known["findings"] = "effusion" if sick else "no finding"
        split = "train" if drawn else ("train", "train", "val", "test")[number // 4 % 4]
        row = {"key": f"{number:09d}", "prompt": prompt, "split": split, **({} if drawn else known)}
        entries.append(Entry(row, image))
    store.write_shard(0, entries, fingerprint=root.name, planned=[entry.row["key"] for entry in entries])
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A folder in which every command of the benchmark was typed."""
    root = tmp_path_factory.mktemp("benchmark")
    images(root / "real", 128, drawn=False)
    images(root / "generated", 32, drawn=True)
    body = {
        "name": "findings", "real": "real", "synthetic": "generated", "tests": [{"data": "real", "name": "held-out"}],
        "seeds": [0], "train": {**TRAIN, "labels": ["effusion"]},
    }  # fmt: skip
    (root / "findings.yaml").write_text(yaml.safe_dump(body))
    small = [f"--{name}={TRAIN[name]}" for name in ("encoder", "size", "batch", "updates")]
    commands = [
        ["train-cls", "--data", "real", "--labels", "AP,effusion", "-o", "classifier", *small, "--set", "warmup=1"],
        ["evaluate", "images", "generated", "real", "--model", str(tiny), "--classifier", "classifier", "-o", "figures",
         "--name", "findings", "--reject-copies", "figures/keep.txt"],
        ["evaluate", "text", str(tiny), "real", "--classifier", "classifier", "-o", "figures"],
        ["compare", "--task", "classify", "--recipe", "findings.yaml", "-o", "compare"],
        ["evaluate", "cls", "real", "--weights", "classifier", "-o", "figures"],
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for command in commands:
            patch.setattr("sys.argv", ["cxrsynth", *command])
            with pytest.raises(SystemExit) as end:
                main()
            assert not end.value.code, command
    return root


def arms(path: Path, metric: str) -> set[str]:
    return {item["arm"] for item in json.loads(path.read_text()) if item["metric"] == metric}


def test_synthetic_images_stand_next_to_real_ones_in_distance_and_alignment(place: Path) -> None:
    figures = place / "figures/images.json"
    for metric in ("fid", "kid", "recall", "auroc"):
        assert arms(figures, metric) == {"findings", "real"}
    assert "effusion" in {item["class"] for item in json.loads(figures.read_text()) if item["metric"] == "auroc"}


def test_the_page_and_the_list_of_kept_images_are_written(place: Path) -> None:
    assert "<img" in (place / "figures/images-findings.html").read_text()
    assert 0 < len((place / "figures/keep.txt").read_text().splitlines()) <= 32


def test_the_text_encoder_stands_next_to_random_weights(place: Path) -> None:
    assert {"tiny", "random weights", "bag of words"} <= arms(place / "figures/text.json", "auroc_same_words")
    assert "random weights" in arms(place / "figures/text.json", "recall_at_5")


def test_every_arm_of_training_data_is_compared(place: Path) -> None:
    found = arms(place / "compare/compare.json", "auroc_difference")
    assert found == {"S-all - R-all", "R-all+S-all - R-all", "S-all>R-all - R-all"}
    assert "S-all>R-all" in (place / "compare/compare.md").read_text()


def test_the_judge_itself_is_measured(place: Path) -> None:
    assert arms(place / "figures/classify.json", "auroc") == {"classifier"}
