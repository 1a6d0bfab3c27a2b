"""A folder of DICOM images of every kind goes in, and comes back as segmentations that lie on these images."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from cxrsynth.data.dicom import read_dataset
from cxrsynth.data.dicom_seg import read_segmentation, segmentation
from cxrsynth.data.pseudonym import VARIABLE
from cxrsynth.errors import MissingError, UsageError
from cxrsynth.export.masks_of import check, write_segmentations
from cxrsynth.factory.apply.segment import segment
from cxrsynth.store import Store
from tests.data import dicoms, study
from tests.ingest.test_dicom import everything, named
from tests.labeller import by_tone

Labelled = tuple[Path, Path, dict[str, Dataset], dict[str, dict[str, np.ndarray]]]


@pytest.fixture(scope="module")
def labelled(phantom_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Labelled:
    """(the folder, the dataset, name -> image, name -> class -> (H, W) bool) of images that were labelled by tone."""
    root = tmp_path_factory.mktemp("study")
    store = Store(phantom_dataset)
    made = study.make(root / "Quixote", store.load_image(next(store.rows())))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "a secret of the tests")
        segment(by_tone(), root / "Quixote", root / "out")
        write_segmentations(root / "Quixote", root / "out", root / "out-dicom")
    by_image = {}
    for path in (root / "out-dicom").iterdir():
        header = pydicom.dcmread(path, stop_before_pixels=True)
        refers = header.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
        by_image[refers] = read_segmentation(path)
    found = {name: by_image[image.SOPInstanceUID] for name, image in made.items() if image.SOPInstanceUID in by_image}
    return root / "Quixote", root / "out", made, found


def test_every_image_that_can_be_used_has_masks_and_no_other(labelled: Labelled) -> None:
    _, _, made, found = labelled
    assert set(made) - set(found) == set(study.ASIDE)
    assert all(regions["right_lung"].any() and regions["heart"].any() for regions in found.values())


def test_masks_lie_on_the_pixels_of_the_file_however_it_was_stored(labelled: Labelled) -> None:
    *_, found = labelled
    plain = found["IM0001"]
    for name, regions in found.items():
        upright = {"mirror_turned": np.fliplr, "side_turned": np.transpose}.get(name, np.asarray)
        lossless = name not in ("IM0004", "IM0008", "IM0010", "window.dcm", "lut.dcm")
        for label, region in regions.items():
            share = (upright(region) != plain[label]).mean()
            assert share < (0.002 if lossless else 0.03), (name, label)


def test_a_segmentation_refers_to_its_image_and_to_the_same_patient(labelled: Labelled) -> None:
    _, out, made, _ = labelled
    images = {image.SOPInstanceUID: image for image in made.values()}
    paths = list(out.with_name("out-dicom").iterdir())
    assert len(paths) == len(made) - len(study.ASIDE)
    for path in paths:
        masks = hd.seg.segread(path)
        ((where, series, instance),) = masks.get_source_image_uids()
        image = images[instance]
        assert (where, series) == (image.StudyInstanceUID, image.SeriesInstanceUID)
        assert (masks.PatientID, masks.StudyInstanceUID) == (image.PatientID, image.StudyInstanceUID)
        assert (masks.Rows, masks.Columns) == (image.Rows, image.Columns)
        assert masks.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "SCT"


def test_what_cannot_be_used_says_why_and_nothing_names_the_patient(labelled: Labelled, tmp_path: Path) -> None:
    root, out, *_ = labelled
    assert named(everything(out), root) == set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "a secret of the tests")
        again = segment(by_tone(), root, tmp_path / "again")
    assert sorted(one["reason"] for one in again.refused) == sorted(study.ASIDE.values())


def test_a_bare_file_without_anything_about_its_patient_has_masks_too(phantom_dataset: Path, tmp_path: Path) -> None:
    store = Store(phantom_dataset)
    picture = store.load_image(next(store.rows()))
    absent = (*dicoms.PHI, "PixelSpacing", "PatientOrientation", "Laterality", "ViewPosition", "PatientSex")
    dicoms.make(tmp_path / "a.dcm", picture, bits=8, **dict.fromkeys(absent))
    segment(by_tone(), tmp_path / "a.dcm", tmp_path / "out")
    assert write_segmentations(tmp_path / "a.dcm", tmp_path / "out", tmp_path / "dicom") == (1, [])


@pytest.mark.parametrize(
    ("letters", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (None, "Sancho"),
    ],
)
def test_the_patients_name_stays_what_it_is_in_any_script(
    letters: str | list[str] | None, name: str, tmp_path: Path
) -> None:
    dicoms.make(tmp_path / "a", np.zeros((40, 40), np.uint8), bits=8, SpecificCharacterSet=letters, PatientName=name)
    data = segmentation(read_dataset(tmp_path / "a"), {"heart": np.eye(40, dtype=bool)}, (), "somebody")
    assert str(pydicom.dcmread(io.BytesIO(data)).PatientName) == name


@pytest.mark.parametrize(
    "invalid", [{"PatientSex": "X"}, {"StudyDate": "April"}, {"StudyTime": "noon"}, {"StudyInstanceUID": None}], ids=str
)
def test_invalid_attributes_do_not_keep_an_image_from_its_masks(invalid: dict[str, str | None]) -> None:
    source = dicoms.header()
    source.Rows, source.Columns = 40, 40
    for name, value in invalid.items():
        if value is None:
            delattr(source, name)
        else:
            source[name] = pydicom.DataElement(name, source[name].VR, value, validation_mode=pydicom.config.IGNORE)
    regions = read_segmentation(io.BytesIO(segmentation(source, {"heart": np.eye(40, dtype=bool)}, (), "somebody")))
    assert np.array_equal(regions["heart"], np.eye(40, dtype=bool))


def test_it_is_said_before_the_work_that_there_is_no_dicom_image(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no DICOM image"):
        check(tmp_path)


def test_without_highdicom_the_error_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingError) as error:
        check(tmp_path)
    assert (error.value.exit_code, error.value.hint) == (4, "pip install 'cxrsynth[dicom]'")
