"""DICOM segmentations are measured like any other masks, whoever wrote them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from cxrsynth.cli import app
from cxrsynth.data.dicom_masks import numbered, paint
from cxrsynth.data.dicom_seg import segmentation
from cxrsynth.data.pseudonym import VARIABLE
from cxrsynth.errors import MissingError, UsageError
from cxrsynth.evaluate.dicom_masks import segmentations
from cxrsynth.evaluate.masks import Comparison, compare_masks
from cxrsynth.export import export
from tests.data import dicoms
from tests.ingest.test_dicom import named


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "a secret of the tests")


@pytest.fixture(scope="module", params=["plain", "layered"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset, and its images and masks as DICOM."""
    data = request.getfixturevalue(f"{request.param}_data")
    out = tmp_path_factory.mktemp("dicom") / request.param
    export(data, "dicom", out)
    return data, out


def worst(found: Comparison) -> float:
    """The lowest Dice of a class in an image."""
    return min(one["dice"] for image in found.images for one in image.values() if not np.isnan(one["dice"]))


def test_segmentations_are_compared_with_the_dataset_that_was_exported(both: tuple[Path, Path]) -> None:
    data, out = both
    found = compare_masks(out, data)
    assert (len(found.keys), found.missing) == (6, [])
    assert worst(found) > 0.95  # where two organs overlap, a dataset shows the likelier one
    assert worst(compare_masks(out, out)) == 1


def test_a_segmentation_belongs_to_the_image_it_refers_to_whatever_its_name(
    both: tuple[Path, Path], tmp_path: Path
) -> None:
    _, out = both
    (tmp_path / "reader").mkdir()
    for number, path in enumerate(sorted(out.rglob("*.seg.dcm"))):
        shutil.copy(path, tmp_path / f"reader/SEG{number}")
    found = compare_masks(tmp_path / "reader", out)
    assert (len(found.keys), worst(found)) == (6, 1)


def source(path: Path, number: int = 0) -> pydicom.Dataset:
    dicoms.make(path, np.zeros((40, 40), np.uint8), bits=8, number=number)
    return pydicom.dcmread(path)


def test_the_heart_lies_over_the_lungs_in_whatever_order_they_were_drawn(tmp_path: Path) -> None:
    image = source(tmp_path / "image")
    lung, heart = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    lung[5:30, 5:30], heart[20:35, 20:35] = True, True
    for name, regions in {"a": {"heart": heart, "left_lung": lung}, "b": {"left_lung": lung, "heart": heart}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.dcm").write_bytes(segmentation(image, regions, (), "somebody"))
    assert worst(compare_masks(tmp_path / "a", tmp_path / "b")) == 1
    (one,) = segmentations(tmp_path / "a")
    numbers = numbered(one.classes)
    assert numbers == {"left_lung": 1, "heart": 2}
    assert (paint(one.path, numbers)[heart] == 2).all()


def test_the_answer_names_nobody(tmp_path: Path) -> None:
    for number in range(2):
        image = source(tmp_path / f"images/{number}", number)
        region = np.zeros((40, 40), bool)
        region[10:20, 10:30] = True
        path = tmp_path / f"masks/Quixote{number}.dcm"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(segmentation(image, {"heart": region}, (), "somebody"))
    asked = CliRunner().invoke(app, ["evaluate", "masks", str(tmp_path / "masks"), str(tmp_path / "masks"), "--json"])
    assert asked.exit_code == 0, asked.output
    assert json.loads(asked.stdout)["summary"][0]["value"] == 1
    assert named(asked.output.encode(), tmp_path / "images") == set()


def test_help_says_what_may_be_measured() -> None:
    told = " ".join(CliRunner().invoke(app, ["evaluate", "masks", "--help"]).output.replace("│", " ").split())
    assert "nnU-Net's predictions" in told
    assert "DICOM SEG" in told


def test_two_segmentations_of_one_image_are_an_error(both: tuple[Path, Path], tmp_path: Path) -> None:
    path = next(both[1].rglob("*.seg.dcm"))
    for name in ("a.dcm", "b.dcm"):
        shutil.copy(path, tmp_path / name)
    with pytest.raises(UsageError, match="belong to one image"):
        segmentations(tmp_path)


def test_a_damaged_segmentation_is_named(both: tuple[Path, Path], tmp_path: Path) -> None:
    dataset = pydicom.dcmread(next(both[1].rglob("*.seg.dcm")))
    del dataset.SegmentSequence
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(UsageError, match=r"a\.dcm cannot be read"):
        compare_masks(tmp_path, both[0])


def test_without_the_extra_the_error_says_what_to_type(
    both: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingError, match="pydicom"):
        compare_masks(both[1], both[0])
