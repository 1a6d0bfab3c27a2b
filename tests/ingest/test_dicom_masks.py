"""Segmentations beside DICOM images become their masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from cxrsynth.data.dicom_seg import segmentation
from cxrsynth.data.pseudonym import VARIABLE
from cxrsynth.export import export
from cxrsynth.ingest.convert import Summary, ingest
from cxrsynth.ingest.dicom import Dicom
from cxrsynth.store import Store
from tests.data import dicoms
from tests.ingest.test_dicom import everything, named


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "a secret of the tests")


@pytest.fixture
def pair(phantom_dataset: Path) -> tuple[np.ndarray, np.ndarray]:
    """An image and its label map, both (128, 128) uint8."""
    store = Store(phantom_dataset)
    row = next(store.rows())
    mask = store.load_mask(row)
    assert mask is not None
    return store.load_image(row), mask


def regions(mask: np.ndarray) -> dict[str, np.ndarray]:
    return {name: mask == number for number, name in enumerate(("right_lung", "left_lung", "heart"), start=1)}


def read(folder: Path, out: Path) -> tuple[Summary, list[np.ndarray | None]]:
    """What ingest says, and the masks it keeps."""
    result = ingest(Dicom(folder), out, 128)
    store = Store(out)
    return result, [store.load_mask(row) for row in store.rows()]


def test_a_dataset_that_was_exported_comes_back_with_its_masks(plain_data: Path, tmp_path: Path) -> None:
    export(plain_data, "dicom", tmp_path / "study")
    result, masks = read(tmp_path / "study", tmp_path / "out")
    assert (result.kept, result.masks, result.refused) == (6, 6, [])
    assert Store(tmp_path / "out").classes() == Store(plain_data).classes()
    before = [Store(plain_data).load_mask(row) for row in Store(plain_data).rows()]
    # Where two organs overlap the heart lies over the lungs; the dataset shows the likelier one.
    assert all(min((mask != other).mean() for other in before) < 0.01 for mask in masks)
    assert all(row["mask_use"] == "train" for row in Store(tmp_path / "out").rows())


def test_a_mask_is_turned_as_its_image_is(pair: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    image, mask = pair
    stored = np.ascontiguousarray(255 - image[::-1, ::-1])  # inverted and upside down, and the header tells neither
    lying = np.ascontiguousarray(image.T)
    dicoms.make(tmp_path / "in/images/a", stored, bits=8, number=1)
    dicoms.make(tmp_path / "in/images/b", lying, bits=8, number=2, PatientOrientation=["F", "L"])
    for name, drawn in {"a": mask[::-1, ::-1], "b": mask.T}.items():
        source = pydicom.dcmread(tmp_path / "in/images" / name)
        (tmp_path / f"in/{name}-masks").write_bytes(segmentation(source, regions(drawn), (), "a reader"))
    result, masks = read(tmp_path / "in", tmp_path / "out")
    assert (result.kept, result.masks) == (2, 2)
    assert all(np.array_equal(found, mask) for found in masks)
    assert named(everything(tmp_path / "out"), tmp_path / "in/images") == set()


def test_a_class_that_a_segmentation_does_not_name_was_not_looked_for(
    pair: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    image, mask = pair
    for number, names in enumerate((("heart",), ("heart", "left_lung"), ())):
        source = dicoms.make(tmp_path / f"in/{number}", image, bits=8, number=number)
        drawn = {name: region for name, region in regions(mask).items() if name in names}
        if drawn:
            (tmp_path / f"in/{number}.seg").write_bytes(segmentation(source, drawn, (), "a reader"))
    result, _ = read(tmp_path / "in", tmp_path / "out")
    rows = list(Store(tmp_path / "out").rows())
    assert (result.kept, result.masks) == (3, 2)
    assert sorted(row["mask_classes"] for row in rows) == [[], ["heart"], ["left_lung", "heart"]]


def test_a_segmentation_without_its_image_is_noted(pair: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    image, mask = pair
    dicoms.make(tmp_path / "in/a", image, bits=8, number=1)
    other = dicoms.make(tmp_path / "elsewhere", image, bits=8, number=2)
    (tmp_path / "in/b").write_bytes(segmentation(other, regions(mask), (), "a reader"))
    result, masks = read(tmp_path / "in", tmp_path / "out")
    assert (result.kept, masks) == (1, [None])
    assert result.remarks == ["1 segmentations belong to no image here"]
