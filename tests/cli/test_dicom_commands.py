"""Every command that reads images of users reads DICOM, names nobody, and says what to install."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pydicom import uid
from typer.testing import CliRunner

from cxrsynth.cli import app
from cxrsynth.data.dicom_seg import read_segmentation
from cxrsynth.data.pseudonym import VARIABLE
from cxrsynth.errors import MissingError
from cxrsynth.nets import classifier, segmenter
from cxrsynth.nets.network_folder import save
from cxrsynth.store import Store
from tests.conftest import latent_body
from tests.data import dicoms
from tests.factory.test_edit import body as controlled
from tests.ingest.test_dicom import everything, named

CPU = torch.device("cpu")
ENCODER = "mobilenetv3_small_050"


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "a secret of the tests")


@pytest.fixture(scope="module")
def phantom(phantom_dataset: Path) -> np.ndarray:
    store = Store(phantom_dataset)
    return store.load_image(next(store.rows()))


@pytest.fixture
def study(phantom: np.ndarray, tmp_path: Path) -> Path:
    """One image upright and one stored lying and inverted, both of one patient."""
    deep = phantom.astype(np.uint16) * 16
    root = tmp_path / "Quixote"
    dicoms.make(root / "IM1", deep, number=1)
    lying = np.ascontiguousarray(4095 - deep[:, ::-1])
    dicoms.make(root / "b.dcm", lying, uid.JPEG2000Lossless, number=2, PatientOrientation=["R", "F"])
    return root


@pytest.fixture
def recipe(tiny: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(latent_body(tiny)))
    return path


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_dataset_beside_the_segmentations_names_nobody(study: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("annotate", study, "-o", out, "-r", recipe, "--timestep", 100, "--device", "cpu", "--json")
    assert json.loads(run(*words))["turned"] == 1
    assert named(everything(out), study) == set()
    assert [row.get("notes") for row in Store(out).rows()].count(["turned upright as PatientOrientation says"]) == 0
    assert any("inverted: turned" in (row.get("notes") or []) for row in Store(out).rows())


def test_a_reason_that_many_files_share_is_told_once(study: Path, phantom: np.ndarray, tmp_path: Path) -> None:
    for number in range(5):
        dicoms.make(study / f"lateral{number}", phantom, bits=8, number=10 + number, ViewPosition="LL")
    result = CliRunner().invoke(app, ["ingest", str(study), "--layout", "dicom", "-o", str(tmp_path / "out")])
    assert [line for line in result.stderr.splitlines() if "lateral" in line] == [
        line for line in result.stderr.splitlines() if line.startswith("refused 5 images: lateral view")
    ]
    assert "refused 5 images" in result.stderr


def test_segment_reads_a_file_without_an_ending_names_nobody_and_gives_a_segmentation_back(
    study: Path, tmp_path: Path
) -> None:
    network = segmenter.Network("unet", f"tu-{ENCODER}", 1, {"decoder_channels": [16, 8, 8, 8, 8]})
    about = {
        "arch": "unet", "encoder": f"tu-{ENCODER}", "options": {"decoder_channels": [16, 8, 8, 8, 8]}, "size": 64,
        "classes": ["heart"],
    }  # fmt: skip
    save(tmp_path / "net", network, about, {}, network.outside())
    words = ("segment", study / "IM1", "-w", tmp_path / "net", "-o", tmp_path / "out")
    told = json.loads(run(*words, "--to", "dicom", "--json"))
    assert (told["images"], told["turned"]) == (1, 0)
    assert named(everything(tmp_path / "out"), study) == set()
    (path,) = (tmp_path / "out-dicom").iterdir()
    store = Store(tmp_path / "out")
    assert np.array_equal(read_segmentation(path)["heart"], store.load_mask(next(store.rows())) == 1)


def test_classify_reads_dicom(study: Path, tmp_path: Path) -> None:
    network = classifier.ClassifierNetwork(ENCODER, 1)
    about = {"encoder": ENCODER, "options": {}, "size": 64, "labels": ["AP"], "thresholds": {}, "precision": "no"}
    save(tmp_path / "net", network, about, {}, network.outside(["AP"], 64))
    run("classify", study, "-w", tmp_path / "net", "-o", tmp_path / "p.csv")
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 3


def test_control_puts_a_finding_into_a_dicom_image(
    study: Path, phantom_dataset: Path, tiny: Path, tmp_path: Path
) -> None:
    store = Store(phantom_dataset)
    Image.fromarray(store.load_mask(next(store.rows()))).save(tmp_path / "mask.png")
    recipe = tmp_path / "control.yaml"
    recipe.write_text(yaml.safe_dump(controlled(tiny, tmp_path)))
    words = ("-f", "opacity", "-r", "left lung", "--mask", tmp_path / "mask.png", "-p", recipe, "--device", "cpu")
    told = json.loads(run("control", study / "IM1", *words, "-o", tmp_path / "out.png", "--json"))
    assert told["finding_pixels"] > 0
    assert named(everything(tmp_path / "out.png"), study) == set()


@pytest.mark.parametrize(
    "words",
    [
        ("ingest", "STUDY", "--layout", "dicom", "-o", "OUT"),
        ("annotate", "STUDY/IM1", "-o", "OUT", "-r", "RECIPE"),
        ("annotate", "STUDY/IM1", "-o", "OUT", "-r", "RECIPE", "--to", "dicom"),
        ("control", "STUDY/IM1", "-f", "opacity", "-r", "left lung", "-o", "OUT"),
        ("evaluate", "masks", "STUDY", "STUDY"),
    ],
    ids=" ".join,
)
def test_without_the_extra_every_command_ends_with_4_and_what_to_type(
    words: tuple[str, ...], study: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pydicom", "highdicom"):
        monkeypatch.setitem(sys.modules, name, None)
    places = {"STUDY": str(study), "OUT": str(tmp_path / "out"), "RECIPE": str(recipe)}
    typed = [re.sub("STUDY|OUT|RECIPE", lambda found: places[found[0]], word) for word in words]
    ended = CliRunner().invoke(app, typed).exception
    assert isinstance(ended, MissingError)
    assert (ended.exit_code, ended.hint) == (4, "pip install 'cxrsynth[dicom]'")


def test_a_mirrored_image_is_refused_and_taken_when_asked_for(
    phantom: np.ndarray, recipe: Path, tmp_path: Path
) -> None:
    Image.fromarray(np.ascontiguousarray(phantom[:, ::-1])).save(tmp_path / "mirrored.png")
    words = ("annotate", tmp_path / "mirrored.png", "-r", recipe, "--timestep", 100, "--device", "cpu", "--json")
    (refused,) = json.loads(run(*words, "-o", tmp_path / "auto"))["refused"]
    assert "mirrored" in refused["reason"]
    assert json.loads(run(*words, "-o", tmp_path / "keep", "--polarity", "keep"))["labelled"] == 1
