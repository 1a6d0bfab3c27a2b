"""A folder of DICOM files becomes a dataset in which nobody can be found."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import uid
from typer.testing import CliRunner

from cxrsynth.cli import app
from cxrsynth.data.pseudonym import VARIABLE, salt, salt_path
from cxrsynth.errors import MissingError
from cxrsynth.ingest.convert import ingest
from cxrsynth.ingest.dicom import Dicom, caption
from cxrsynth.store import Store
from tests.data import dicoms


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "a secret of the tests")


@pytest.fixture(scope="module")
def phantom(phantom_dataset: Path) -> np.ndarray:
    """(128, 128) uint8."""
    store = Store(phantom_dataset)
    return store.load_image(next(store.rows()))


@pytest.fixture
def archive(phantom: np.ndarray, tmp_path: Path) -> Path:
    """Files as a hospital's archive gives them: named by the patient, with and without endings, some of no use."""
    root = tmp_path / "QUIXOTE_ALONSO" / "MRN-7741-LMNCHA"
    deep = phantom.astype(np.uint16) * 16
    dicoms.make(root / "Quixote.dcm", deep, number=1)
    dicoms.make(
        root / "st1/IM000002", 4095 - deep, uid.JPEGLosslessSV1, number=2, PhotometricInterpretation="MONOCHROME1"
    )
    dicoms.make(root / "st1/IM000003", deep, uid.JPEGLSLossless, number=3, PatientID="other", PatientAge="005Y")
    dicoms.make(root / "st1/IM000004", deep, number=4, ViewPosition="LL")
    dicoms.make(root / "st1/IM000005", np.stack([deep, deep]), number=5)
    dicoms.make(root / "st1/IM000006", 4095 - deep, number=6)  # inverted, and says that it is not
    (root / "st1/report.txt").write_text("Quixote^Alonso^Hidalgo")
    (root / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    return tmp_path / "QUIXOTE_ALONSO"


def everything(root: Path) -> bytes:
    """All bytes that were written, what is compressed unpacked as well."""
    found = []
    for path in root.rglob("*") if root.is_dir() else [root]:
        found.append(str(path.relative_to(root.parent)).encode())
        if path.is_file():
            data = path.read_bytes()
            found.append(data)
            if path.suffix == ".png":
                with Image.open(io.BytesIO(data)) as picture:
                    found.append(json.dumps({str(key): str(value) for key, value in picture.info.items()}).encode())
                    found.append(picture.tobytes())
            if path.suffix == ".npz":
                with np.load(path) as arrays:
                    found += [arrays[name].tobytes() for name in arrays.files]
    return b"\n".join(found)


def named(data: bytes, source: Path) -> set[str]:
    """The attributes of DICOM files whose value is found in the data."""
    lower = data.lower()
    found = set()
    for path in source.rglob("*"):
        if path.is_file() and path.name not in ("DICOMDIR", "report.txt"):
            header = pydicom.dcmread(path, stop_before_pixels=True)
            for name in (*dicoms.PHI, *dicoms.UIDS):
                value = str(header.get(name) or "")
                words = [value, *(word for word in value.replace("^", " ").split() if len(word) > 4)]
                if any(word and word.lower().encode() in lower for word in words):
                    found.add(name)
            private = header[0x00091010].value  # bytes where the file does not say what it is
            private = private if isinstance(private, bytes) else private.encode()
            found |= {"private"} if private.lower() in lower else set()
    return found


def test_the_search_finds_what_it_looks_for(archive: Path) -> None:
    assert named(everything(archive), archive) == {*dicoms.PHI, *dicoms.UIDS, "private"}


def test_nothing_of_a_patient_is_in_the_dataset(archive: Path, tmp_path: Path) -> None:
    result = ingest(Dicom(archive), tmp_path / "out", 64)
    assert result.kept == 4
    data = everything(tmp_path / "out")
    assert named(data, archive) == set()
    assert b"IM00000" not in data
    assert b"a secret of the tests" not in data


def test_what_is_set_aside_says_why(archive: Path, tmp_path: Path) -> None:
    result = ingest(Dicom(archive), tmp_path / "out", 64)
    assert sorted(row["reason"] for row in result.refused) == [
        "lateral view (ViewPosition)",
        "multi-frame: 2 frames, one image is read",
    ]
    assert sorted(row["reason"] for row in result.notes) == ["MONOCHROME1 inverted", "inverted: turned"]


def test_every_polarity_gives_the_same_image(archive: Path, phantom: np.ndarray, tmp_path: Path) -> None:
    ingest(Dicom(archive), tmp_path / "out", 128)
    store = Store(tmp_path / "out")
    for row in store.rows():
        assert np.corrcoef(store.load_image(row).ravel(), phantom.ravel())[0, 1] > 0.99


def test_fields_arrive_and_the_same_patient_has_one_pseudonym(archive: Path, tmp_path: Path) -> None:
    ingest(Dicom(archive), tmp_path / "out", 64)
    rows = list(Store(tmp_path / "out").rows())
    assert len({row["patient"] for row in rows}) == 2
    child = next(row for row in rows if row["age"] == 5)
    assert (child["view"], child["sex"], child["prompt"]) == (
        "PA", "M", "Frontal chest X-ray, PA view, of a 5-year-old boy."
    )  # fmt: skip
    assert child["pixel_spacing"] == [1.4, 1.4]  # 0.7 mm of 128 pixels, now 64
    by_patient = {row["patient"]: row["split"] for row in rows}
    assert all(by_patient[row["patient"]] == row["split"] for row in rows)


def test_names_of_files_change_nothing(archive: Path, tmp_path: Path) -> None:
    keys = [image.key for image in Dicom(archive).images()]
    moved = archive.rename(tmp_path / "elsewhere")
    (moved / "MRN-7741-LMNCHA/Quixote.dcm").rename(moved / "zzz")
    assert [image.key for image in Dicom(moved).images()] == keys


def test_another_salt_gives_other_pseudonyms(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {image.row["patient"] for image in Dicom(archive).images()}
    monkeypatch.setenv(VARIABLE, "another")
    assert ours.isdisjoint(image.row["patient"] for image in Dicom(archive).images())


def test_without_a_given_salt_one_is_made_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    first = salt()
    assert len(first) == 64
    assert salt() == first
    assert salt_path().stat().st_mode & 0o077 == 0


def test_an_image_that_was_filed_twice_has_two_keys(archive: Path) -> None:
    (archive / "copy").write_bytes((archive / "MRN-7741-LMNCHA/Quixote.dcm").read_bytes())
    keys = [image.key for image in Dicom(archive).images()]
    assert len(set(keys)) == len(keys) == 7


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({}, "Frontal chest X-ray."),
        ({"view": "AP", "sex": "F"}, "Frontal chest X-ray, AP view, of a woman."),
        ({"age": 82.0, "sex": "M"}, "Frontal chest X-ray, of an 82-year-old man."),
        ({"age": 0.5}, "Frontal chest X-ray, of an infant."),
    ],
)
def test_a_prompt_says_what_the_fields_say(row: dict[str, Any], text: str) -> None:
    assert caption(row) == text


def test_the_command_reads_a_folder_and_says_what_was_turned(archive: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["ingest", str(archive), "--layout", "dicom", "-o", str(tmp_path / "out"), "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["kept"] == 4
    assert "1 of 4 images were not upright" in result.stderr


def test_polarity_keep_takes_images_as_they_are(archive: Path, tmp_path: Path) -> None:
    result = ingest(Dicom(archive), tmp_path / "out", 64, polarity="keep")
    assert [row["reason"] for row in result.notes] == ["MONOCHROME1 inverted"]


def test_without_the_extra_ingest_says_what_to_type(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingError, match="pydicom"):
        ingest(Dicom(archive), tmp_path / "out", 64)
