"""A folder of one's own hospital as a test of a comparison: measured on, and never trained or validated on."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from cxrsynth.cli import app
from cxrsynth.compare import add_tests, compare
from cxrsynth.errors import CxrError, MismatchError, UsageError
from cxrsynth.store import Store
from tests.compare import test_classify
from tests.compare.test_compare import recipe
from tests.train.chests import CLASSES, chest, make

ONLY_REAL: dict[str, Any] = {"arms": ["real"], "real_patients": [0], "seeds": [0], "synthetic": None}


def hospital(root: Path, table: Iterable[str] = (), classes: dict[str, int] = CLASSES, masks: bool = True) -> Path:
    """Four images of a hospital as people keep them: two folders, the classes, and perhaps a table."""
    for name in ("images", "masks") if masks else ("images",):
        (root / name).mkdir(parents=True)
    for number in range(4):
        image, mask = chest(20 + number)
        Image.fromarray(image).save(root / f"images/{number}.png")
        if masks:
            Image.fromarray(mask).save(root / f"masks/{number}.png")
    listed = [{"id": i, "name": name, "phrase": name} for name, i in classes.items()]
    (root / "classes.json").write_text(json.dumps({"classes": listed}))
    if table:
        (root / "metadata.csv").write_text("\n".join(table) + "\n")
    return root


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    make(root / "real", splits="ttttvsss")
    return root


@pytest.fixture(scope="module")
def finished(datasets: Path) -> Path:
    """The folder of a comparison that was run from the command line with a test of one's own."""
    spaced = [f"{number}.png,0.5" for number in range(4)]
    mine = hospital(datasets / "hospital", ["file,pixel_spacing", *spaced])
    (datasets / "small.yaml").write_text(yaml.safe_dump(recipe(datasets, **ONLY_REAL).model_dump(mode="json")))
    words = ["compare", "-r", str(datasets / "small.yaml"), "-o", str(datasets / "out"), "--device", "cpu"]
    result = CliRunner().invoke(app, [*words, "--test", f"mine={mine}"])
    assert result.exit_code == 0, result.output
    return datasets / "out"


def records(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / "compare.json").read_text())
    return [item for item in found if item["dataset"] == "chests:mine"]


def test_a_folder_of_ones_own_is_a_test_like_any_other(finished: Path) -> None:
    found = {item["class"]: item for item in records(finished) if item["metric"] == "dice"}
    assert set(found) == {*CLASSES, "mean"}
    assert {item["n"] for item in found.values()} == {4}


def test_its_distances_are_in_mm_where_its_table_knows_them(finished: Path) -> None:
    assert {"hd95_mm", "nsd_mm"} <= {item["metric"] for item in records(finished)}
    (made,) = (finished / "tests").iterdir()
    row = next(iter(Store(made).rows()))
    assert row["pixel_spacing"] == [0.125, 0.125]  # 64 pixels of 0.5 mm, now 256


def test_it_is_told_from_what_networks_have_seen(finished: Path) -> None:
    (seen,) = finished.glob("runs/*/model/patients.json")
    assert "hospital" not in seen.read_text()


def test_a_test_that_is_there_trains_nothing_and_is_brought_in_once(datasets: Path, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")}
    added, _ = add_tests(recipe(datasets, **ONLY_REAL), finished, [f"mine={datasets / 'hospital'}"])
    compare(added, finished, "cpu")
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")} == before
    assert len(list((finished / "tests").iterdir())) == 1


def test_a_corrected_mask_makes_another_test_set(datasets: Path, tmp_path: Path) -> None:
    mine = hospital(tmp_path / "mine")
    first, _ = add_tests(recipe(datasets), tmp_path / "out", [f"mine={mine}"])
    Image.fromarray(np.fliplr(chest(20)[1])).save(mine / "masks/0.png")
    second, _ = add_tests(recipe(datasets), tmp_path / "out", [f"mine={mine}"])
    assert first.tests[-1].data != second.tests[-1].data


def test_a_dataset_is_taken_as_it_is(datasets: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", splits="ts", source="other")
    added, told = add_tests(recipe(datasets), tmp_path / "out", [f"other={other}"])
    assert (added.tests[-1].data, added.tests[-1].split, told) == (other, "all", [])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("named", "what"),
    [
        (["mine"], "not NAME=FOLDER"),
        (["../mine=HERE"], "not NAME=FOLDER"),
        (["mine=HERE/nowhere"], "does not exist"),
        (["mine=HERE", "mine=HERE"], "two tests are called mine"),
        (["home=HERE"], "two tests are called home"),
    ],
)
def test_what_cannot_be_a_test_is_refused(named: list[str], what: str, datasets: Path, tmp_path: Path) -> None:
    mine = hospital(tmp_path / "mine")
    given = recipe(datasets, tests=[{"data": datasets / "real", "name": "home"}])
    with pytest.raises(UsageError, match=what):
        add_tests(given, tmp_path / "out", [text.replace("HERE", str(mine)) for text in named])
    assert not (tmp_path / "out").exists()


def test_a_folder_without_masks_is_refused(datasets: Path, tmp_path: Path) -> None:
    mine = hospital(tmp_path / "mine", masks=False)
    with pytest.raises(UsageError, match=r"none of the 4 images .*masks does not exist"):
        add_tests(recipe(datasets), tmp_path / "out", [f"mine={mine}"])


def refusal(datasets: Path, folder: Path, out: Path) -> CxrError:
    """What a comparison says of a folder; nothing may have been trained by then."""
    given = recipe(datasets, **ONLY_REAL)
    with pytest.raises(CxrError) as error:
        compare(add_tests(given, out, [f"mine={folder}"])[0], out, "cpu")
    assert not (out / "runs").exists()
    return error.value


def test_classes_that_do_not_match_are_named(datasets: Path, tmp_path: Path) -> None:
    mine = hospital(tmp_path / "mine", classes={"lung_r": 1, "lung_l": 2, "cor": 3})
    told = refusal(datasets, mine, tmp_path / "out")
    assert "lung_r, lung_l, cor" in told.message
    assert "right_lung, left_lung, heart" in told.message


@pytest.mark.parametrize("patient", ["p1", "p4"])  # of training, of validation
def test_a_patient_that_networks_have_seen_is_refused(patient: str, datasets: Path, tmp_path: Path) -> None:
    mine = hospital(tmp_path / "mine", ["file,patient,source", f"0.png,{patient},clinic"])
    told = refusal(datasets, mine, tmp_path / "out")
    assert isinstance(told, MismatchError)
    assert f"clinic/{patient} is in two splits" in told.message


def test_an_image_that_networks_have_seen_is_refused_whatever_its_name(datasets: Path, tmp_path: Path) -> None:
    copies = make(tmp_path / "copies", splits="s", source="elsewhere")  # its first image is that of the real ones
    told = refusal(datasets, copies, tmp_path / "out")
    assert "networks learn from" in told.message


def test_classifiers_are_tested_where_the_table_tells_of_findings(tmp_path: Path) -> None:
    given = test_classify.recipe(tmp_path)
    silent = hospital(tmp_path / "silent", masks=False)
    with pytest.raises(UsageError, match="says nothing about AP, effusion"):
        add_tests(given, tmp_path / "out", [f"silent={silent}"])
    table = ["file,findings", "0.png,effusion", "1.png,no finding"]
    speaks = hospital(tmp_path / "speaks", table, masks=False)
    added, told = add_tests(given, tmp_path / "out", [f"speaks={speaks}"])
    assert added.tests[-1].label == "speaks"
    assert "4 of 4 images" in told[0]
