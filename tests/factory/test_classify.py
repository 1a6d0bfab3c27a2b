"""The chain of `make benchmark-roentgen` by its commands, on a few tiny images; and images that cannot be read."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cxrsynth.cli import app
from cxrsynth.errors import UsageError
from tests.evaluate.test_generated import draw
from tests.train.chests import make
from tests.train.test_classify import ENCODER

SMALL = ["--updates", "2", "--batch", "4", "--size", "64", "--encoder", ENCODER, "--set", "warmup=1"]


def command(*arguments: Any) -> Any:
    """What a command prints on stdout, read as JSON."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = {i: {"view": ("AP", "PA")[i % 2], "findings": ("cardiomegaly", "no finding")[i // 2 % 2]} for i in range(44)}
    return make(tmp_path_factory.mktemp("data") / "real", splits="t" * 20 + "v" * 8 + "s" * 16, rows=rows, per_shard=22)


@pytest.fixture(scope="module")
def classifier(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run") / "classifier"
    told = command("train-cls", "--data", images, "--labels", "AP,cardiomegaly", "-o", run, "--device", "cpu", *SMALL)
    assert set(told["test"]["labels"]) == {"AP", "cardiomegaly"}
    return run


def test_images_of_a_folder_are_classified_and_the_unreadable_ones_named(
    images: Path, classifier: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "good.png").write_bytes((images / "images/00000/000.png").read_bytes())
    (folder / "bad.png").write_bytes(b"no picture")
    told = command("classify", folder, "--weights", classifier, "-o", tmp_path / "p.csv", "--device", "cpu")
    assert (told["images"], told["refused"]) == (1, 1)
    (line,) = csv.DictReader((tmp_path / "p.csv").open())
    assert line["key"] == "good"
    assert 0 < float(line["AP"]) < 1


def test_another_ending_is_refused_before_anything_is_read(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither"):
        command("classify", tmp_path / "images", "--weights", classifier, "-o", tmp_path / "p.txt")


def test_a_trained_classifier_is_measured_on_held_out_images(images: Path, classifier: Path, tmp_path: Path) -> None:
    found = command("evaluate", "cls", images, "--weights", classifier, "-o", tmp_path, "--device", "cpu")
    assert {(item["class"], item["n"]) for item in found} == {("AP", 16), ("cardiomegaly", 16)}
    assert (tmp_path / "classify.json").exists()


def test_synthetic_images_are_measured_and_copies_left_out_by_one_command(
    images: Path, classifier: Path, tiny: Path, tmp_path: Path
) -> None:
    drawn = draw(tmp_path / "generated")
    keep = tmp_path / "keep.txt"
    found = command(
        "evaluate", "images", drawn, images, "--model", tiny, "--classifier", classifier, "--reject-copies", keep,
        "-o", tmp_path / "results", "--device", "cpu", "--offline",
    )  # fmt: skip
    assert {"fid", "kid", "coverage", "ms_ssim", "suspicious_share", "auroc"} <= {item["metric"] for item in found}
    assert "000000003" not in keep.read_text().split()
    assert (tmp_path / "results/images-generated.html").stat().st_size > 10_000


def test_classifiers_are_compared_by_one_command(images: Path, tmp_path: Path) -> None:
    body = {
        "name": "small", "real": str(images), "synthetic": str(draw(tmp_path / "generated")),
        "arms": ["real", "synthetic"],
        "tests": [{"data": str(images)}], "seeds": [0],
        "train": {"encoder": ENCODER, "labels": ["AP"], "size": 64, "batch": 2, "updates": 2, "warmup": 1},
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(body))
    out = tmp_path / "out"
    found = command("compare", "--task", "classify", "--recipe", tmp_path / "recipe.yaml", "-o", out, "--device", "cpu")
    assert {item["arm"] for item in found if item["metric"] == "auroc"} == {"R-all", "S-all"}
    written = {path.name for path in out.iterdir() if path.is_file() and path.name[0] != "."}
    assert written == {"compare.json", "compare.csv", "compare.md"}
    assert "| S-all - R-all |" in (out / "compare.md").read_text()


def test_an_unknown_task_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        command("compare", "--task", "draw", "--recipe", tmp_path / "recipe.yaml")
    assert "classify" in error.value.hint
