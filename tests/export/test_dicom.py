"""A dataset as DICOM: what pydicom and highdicom read is what the dataset holds, and it says that it is synthetic."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.sr.codedict import codes

from cxrsynth.data.dicom_seg import read_segmentation, segmentation
from cxrsynth.domain import snomed
from cxrsynth.export import dicom, export
from cxrsynth.export.selection import select
from cxrsynth.store import Store
from tests.conftest import tree
from tests.small_dataset import make_real


@pytest.fixture(scope="module")
def exported(layered_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dicom") / "out"
    export(layered_data, "dicom", out)
    return out


def pairs(data: Path, out: Path) -> Any:
    """(row, secondary capture, path of the segmentation) of every image."""
    for row in Store(data).rows():
        path = out / row["split"] / f"{row['key']}.dcm"
        yield row, pydicom.dcmread(path), path.with_suffix("").with_suffix(".seg.dcm")


def test_pixels_come_back(layered_data: Path, exported: Path) -> None:
    for row, image, _ in pairs(layered_data, exported):
        assert np.array_equal(image.pixel_array, Store(layered_data).load_image(row))


def test_segments_come_back_by_code_and_by_label(layered_data: Path, exported: Path) -> None:
    chosen = select(layered_data, masks_only=False)
    for row, _, path in pairs(layered_data, exported):
        found, wanted = read_segmentation(path), chosen.regions(row)
        assert list(found) == list(wanted)
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_highdicom_finds_the_source_image_of_every_segment(layered_data: Path, exported: Path) -> None:
    for row, image, path in pairs(layered_data, exported):
        masks = hd.seg.segread(path)
        assert masks.get_source_image_uids() == [
            (image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID)
        ]
        heart = masks.get_segment_numbers(segmented_property_type=hd.sr.CodedConcept("80891009", "SCT", "Heart"))
        region = masks.get_pixels_by_source_instance([image.SOPInstanceUID], segment_numbers=heart)[0, ..., 0]
        assert np.array_equal(region > 0, select(layered_data, masks_only=False).regions(row)["heart"])


def test_every_file_says_that_nobody_was_imaged(layered_data: Path, exported: Path) -> None:
    for _, image, path in pairs(layered_data, exported):
        assert image.ConversionType == "SYN"
        assert image.ImageType[0] == "DERIVED"
        assert "no patient was imaged" in image.DerivationDescription
        assert image.DerivationDescription.endswith("Licence: CC0-1.0.")
        assert str(pydicom.dcmread(path).PatientName).startswith("Synthetic")


def test_a_real_image_is_derived_and_not_synthetic(tmp_path: Path) -> None:
    real = make_real(tmp_path / "real")
    export(real, "dicom", tmp_path / "out")
    image = pydicom.dcmread(next(path for path in (tmp_path / "out").rglob("*.dcm") if ".seg" not in path.name))
    assert image.ConversionType != "SYN"
    assert "Derived" in image.SeriesDescription


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"fields": {"sex": "woman", "age": "65"}, "prompt": "Chest X-ray, AP view, of a woman."}, ("F", 65, "AP")),
        ({"sex": "M", "age": 40.5, "view": "PA", "fields": {"sex": "woman"}}, ("M", 40, "PA")),
        ({"prompt": "PA and AP", "fields": {"age": "old"}}, (None, None, "")),
    ],
)
def test_sex_age_and_view_are_those_of_the_row_or_of_its_prompt(row: dict[str, Any], wanted: tuple[Any, ...]) -> None:
    assert (dicom.sex(row), dicom.age(row), dicom.view(row)) == wanted


def test_words_of_any_language_come_back(plain_data: Path) -> None:
    chosen = select(plain_data, masks_only=False)
    row = {**chosen.rows[0], "prompt": "Röntgenbild, 胸部"}
    image = pydicom.dcmread(io.BytesIO(dicom.capture(chosen, row)))
    assert image.ImageComments == row["prompt"]
    region = np.zeros((image.Rows, image.Columns), bool)
    region[4:9, 4:9] = True
    masks = io.BytesIO(segmentation(image, {"heart": region}, (), "médecin"))
    assert pydicom.dcmread(masks).SeriesDescription == "Masks by médecin"


def test_right_is_on_the_left_and_the_size_is_said_to_be_assumed(layered_data: Path, exported: Path) -> None:
    _, image, path = next(pairs(layered_data, exported))
    assert list(image.PatientOrientation) == ["L", "F"]
    assert image.PixelSpacing[0] * image.Rows == pytest.approx(400)
    assert "assumed" in image.PixelSpacingCalibrationDescription
    measures = pydicom.dcmread(path).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.PixelSpacing == image.PixelSpacing
    columns = np.argwhere(read_segmentation(path)["right_lung"])[:, 1]
    assert columns.mean() < image.Columns / 2


def test_the_same_export_twice_gives_the_same_files(layered_data: Path, exported: Path, tmp_path: Path) -> None:
    export(layered_data, "dicom", tmp_path / "out")
    assert tree(tmp_path / "out") == tree(exported)


def test_uids_are_valid_and_nobody_has_one_twice(exported: Path) -> None:
    files = [pydicom.dcmread(path) for path in exported.rglob("*.dcm")]
    uids = [file.SOPInstanceUID for file in files]
    assert all(uid.is_valid for uid in uids)
    assert len(set(uids)) == len(uids)


@pytest.mark.parametrize(
    ("name", "keyword"), [("heart", "Heart"), ("lung", "Lung"), ("effusion", "PleuralEffusion"), ("mass", "Mass")]
)
def test_codes_are_those_of_the_standard(name: str, keyword: str) -> None:
    ours, theirs = snomed.coded(name)[1], getattr(codes.SCT, keyword)
    assert (ours.value, ours.scheme) == (theirs.value, theirs.scheme_designator)


def test_codes_and_meanings_fit_and_no_two_classes_share_one() -> None:
    every = [*snomed.STRUCTURES.values(), *snomed.FINDINGS.values()]
    assert len({code.value for code in every}) == len(every)
    assert all(len(code.value) <= 16 and len(code.meaning) <= 64 for code in every)


def test_a_class_without_a_code_keeps_its_name() -> None:
    source = pydicom.dcmread(io.BytesIO(capture()))
    region = np.zeros((64, 64), bool)
    region[3:9, 4:7] = True
    data = segmentation(source, {"cardiac silhouette of mine": region}, (), "me")
    (name,) = read_segmentation(io.BytesIO(data))
    assert name == "cardiac_silhouette_of_mine"


def capture() -> bytes:
    """A bare secondary capture."""
    made = hd.sc.SCImage(
        np.asarray(Image.new("L", (64, 64))),
        "MONOCHROME2",
        8,
        "PATIENT",
        hd.UID(),
        hd.UID(),
        1,
        hd.UID(),
        1,
        "me",
        patient_orientation=("L", "F"),
    )
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
