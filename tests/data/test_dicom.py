"""A DICOM radiograph is read as it is meant to be seen, in every transfer syntax, and everything else says why not."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from cxrsynth.data import dicom
from cxrsynth.data.dicom import is_dicom, read_dicom
from cxrsynth.data.dicom_fields import DicomError, fields
from cxrsynth.errors import MissingError
from tests.data import dicoms
from tests.small_dataset import chest

PICTURE = chest(0)[0]

# How far a decoded pixel may lie from the original, of 255.
EXACT = {
    uid.ExplicitVRLittleEndian: 0,
    uid.ImplicitVRLittleEndian: 0,
    uid.ExplicitVRBigEndian: 0,
    uid.DeflatedExplicitVRLittleEndian: 0,
    uid.RLELossless: 0,
    uid.JPEGLossless: 0,
    uid.JPEGLosslessSV1: 0,
    uid.JPEGLSLossless: 0,
    uid.JPEGLSNearLossless: 2,
    uid.JPEG2000Lossless: 0,
    uid.JPEG2000: 25,
}
CASES = [(syntax, bits) for syntax in EXACT for bits in (8, 12, 16)] + [
    (uid.JPEGBaseline8Bit, 8),
    (uid.JPEGExtended12Bit, 8),
]


def deep(bits: int) -> np.ndarray:
    """The picture with so many bits."""
    return PICTURE.astype(np.uint16) << (bits - 8) if bits > 8 else PICTURE


@pytest.mark.parametrize(("syntax", "bits"), CASES, ids=[f"{syntax.keyword}-{bits}" for syntax, bits in CASES])
def test_every_transfer_syntax_gives_the_same_picture(syntax: uid.UID, bits: int, tmp_path: Path) -> None:
    dicoms.make(tmp_path / "a", deep(bits), syntax, bits=bits)
    assert pydicom.dcmread(tmp_path / "a").file_meta.TransferSyntaxUID == syntax
    array, notes = read_dicom(tmp_path / "a")
    assert np.abs(array / 2 ** (bits - 8) - PICTURE).max() <= EXACT.get(syntax, 2)
    assert notes == []


def test_lossy_jpeg_of_twelve_bits_says_which_decoder_it_needs() -> None:
    dataset = pydicom.dcmread(get_testdata_file("JPGExtended.dcm"))
    plugins = pydicom.pixels.get_decoder(uid.JPEGExtended12Bit).available_plugins
    if "pylibjpeg" in plugins:  # nothing can encode it, so only a file that comes with pydicom is decoded
        assert len(np.unique(dicom._pixels(dataset)[0])) > 256
    else:
        with pytest.raises(DicomError, match="pip install pylibjpeg-libjpeg"):
            dicom._pixels(dataset)


def read(tmp_path: Path, pixels: np.ndarray = PICTURE, **attributes: Any) -> tuple[np.ndarray, list[str]]:
    attributes = {"bits": 8, **attributes}
    dicoms.make(tmp_path / "a.dcm", pixels, **attributes)
    return read_dicom(tmp_path / "a.dcm")


def test_monochrome1_comes_out_with_dense_bright(tmp_path: Path) -> None:
    array, notes = read(tmp_path, 255 - PICTURE, PhotometricInterpretation="MONOCHROME1")
    assert np.corrcoef(array.ravel(), PICTURE.ravel())[0, 1] > 0.999
    assert notes == ["MONOCHROME1 inverted"]


def test_rescaling_comes_before_the_window(tmp_path: Path) -> None:
    array, _ = read(tmp_path, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=156, WindowWidth=256)
    middle = (PICTURE > 80) & (PICTURE < 170)
    assert array[PICTURE < 60].std() == 0  # below the window
    assert np.corrcoef(array[middle], PICTURE[middle])[0, 1] > 0.999


def test_the_first_of_several_windows_is_taken(tmp_path: Path) -> None:
    array, _ = read(tmp_path, WindowCenter=[128, 10], WindowWidth=[200, 2])
    assert len(np.unique(array)) > 100


def test_a_voi_lut_sequence_maps_tones(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor = [256, 0, 16]
    table.add_new("LUTData", "OW", (np.arange(256, dtype=np.uint16) ** 2).tobytes())
    array, _ = read(tmp_path, VOILUTSequence=[table])
    assert np.array_equal(array, PICTURE.astype(np.float32) ** 2)


@pytest.mark.parametrize("window", [(128, 0), (5000, 10)])
def test_a_window_that_shows_nothing_is_left_out(window: tuple[int, int], tmp_path: Path) -> None:
    array, notes = read(tmp_path, WindowCenter=window[0], WindowWidth=window[1])
    assert np.array_equal(array, PICTURE)
    assert "left out" in notes[0]


def test_signed_pixels_keep_their_order(tmp_path: Path) -> None:
    array, _ = read(tmp_path, PICTURE.astype(np.int16) - 128, bits=16)
    assert np.array_equal(array + 128, PICTURE)


def test_padding_is_black_in_both_polarities(tmp_path: Path) -> None:
    pixels = 255 - PICTURE
    pixels[:, :10] = 0  # white in MONOCHROME1
    pixels[:, 10:] = pixels[:, 10:].clip(1)
    array, notes = read(tmp_path, pixels, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=0)
    assert array[:, :10].max() == array[:, 10:].min()
    assert "padding made black" in notes


@pytest.mark.parametrize(
    ("stored", "letters"),
    [
        (PICTURE[:, ::-1], ["R", "F"]),
        (PICTURE[::-1], ["L", "H"]),
        (PICTURE[::-1, ::-1], ["R", "H"]),
        (PICTURE.T, ["F", "L"]),
        (PICTURE[::-1].T, ["H", "L"]),
    ],
)
def test_an_image_that_says_how_it_lies_is_turned_upright(
    stored: np.ndarray, letters: list[str], tmp_path: Path
) -> None:
    array, notes = read(tmp_path, np.ascontiguousarray(stored), PatientOrientation=letters)
    assert np.array_equal(array, PICTURE)
    assert notes == ["turned upright as PatientOrientation says"]


@pytest.mark.parametrize(
    ("reason", "attributes"),
    [
        ("lateral", {"ViewPosition": "LL"}),
        ("lateral", {"ViewPosition": "LATERAL"}),
        ("lateral", {"ViewPosition": None, "PatientOrientation": ["A", "F"]}),
        ("lateral", {"ViewPosition": None, "SeriesDescription": "Chest lat."}),
        ("oblique", {"ViewPosition": "LAO"}),
        ("decubitus", {"ViewPosition": "LLD"}),
        ("BodyPartExamined", {"BodyPartExamined": "KNEE"}),
        ("burnt-in", {"BurnedInAnnotation": "YES"}),
        ("no radiograph: CT Image Storage", {"kind": "1.2.840.10008.5.1.4.1.1.2"}),
        ("no radiograph", {"kind": dicoms.SC, "Modality": "CT"}),
    ],
)
def test_what_is_no_frontal_chest_is_set_aside_with_its_reason(
    reason: str, attributes: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(DicomError, match=reason):
        read(tmp_path, **attributes)


def test_several_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DicomError, match="multi-frame: 3 frames"):
        read(tmp_path, np.stack([PICTURE] * 3), kind=dicoms.SC)


def test_gray_stored_as_colour_is_read_and_colour_is_not(tmp_path: Path) -> None:
    gray = np.repeat(PICTURE[..., None], 3, axis=2)
    array, _ = read(tmp_path, gray, kind=dicoms.SC)
    assert np.array_equal(array, PICTURE)
    gray[..., 0] //= 2
    with pytest.raises(DicomError, match="colour"):
        read(tmp_path, gray, kind=dicoms.SC)


def test_a_file_that_stops_in_the_middle_is_corrupt(tmp_path: Path) -> None:
    dicoms.make(tmp_path / "whole.dcm", PICTURE, uid.RLELossless, bits=8)
    whole = (tmp_path / "whole.dcm").read_bytes()
    for size in (50, 140, 400, len(whole) // 2, len(whole) - 500):
        (tmp_path / "cut.dcm").write_bytes(whole[:size])
        with pytest.raises(DicomError):
            read_dicom(tmp_path / "cut.dcm")


def test_a_file_without_an_ending_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    dicoms.make(tmp_path / "IM0001", PICTURE, bits=8)
    (tmp_path / "other").write_bytes(b"\0" * 200)
    assert is_dicom(tmp_path / "IM0001")
    assert not is_dicom(tmp_path / "other")


@pytest.mark.parametrize(
    ("stated", "years"), [("058Y", 58), ("018M", 1.5), ("003W", 0.06), ("010D", 0.03), ("104Y", 90), ("58", 58)]
)
def test_ages_are_years_and_the_oldest_share_one(stated: str, years: float) -> None:
    assert fields(dicoms.header(PatientAge=stated))["age"] == pytest.approx(years, abs=0.01)


def test_without_a_stated_age_two_dates_give_it() -> None:
    assert fields(dicoms.header(PatientAge=None))["age"] == 68
    assert fields(dicoms.header(PatientAge=None, StudyDate=None))["age"] is None


@pytest.mark.parametrize(("said", "view"), [("PA", "PA"), ("AP", "AP"), ("AP SUPINE", "AP"), ("", ""), ("Sancho", "")])
def test_a_view_is_pa_or_ap_or_unknown(said: str, view: str) -> None:
    assert fields(dicoms.header(ViewPosition=said))["view"] == view


def test_a_view_may_be_coded() -> None:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "399348003", "SCT", "antero-posterior"
    assert fields(dicoms.header(ViewPosition=None, ViewCodeSequence=[item]))["view"] == "AP"


def test_spacing_at_the_detector_is_brought_to_the_patient() -> None:
    told = fields(
        dicoms.header(PixelSpacing=None, ImagerPixelSpacing=[0.22, 0.11], EstimatedRadiographicMagnificationFactor=1.1)
    )
    assert told["pixel_spacing"] == [0.2, 0.1]


def test_without_the_extra_the_error_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dicoms.make(tmp_path / "a.dcm", PICTURE, bits=8)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingError) as error:
        read_dicom(tmp_path / "a.dcm")
    assert error.value.hint == "pip install 'cxrsynth[dicom]'"
    assert error.value.exit_code == 4
