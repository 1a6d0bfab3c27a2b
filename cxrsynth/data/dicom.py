"""One DICOM radiograph: its pixels as a radiologist sees them.

Read are computed and digital radiography and secondary captures of one frame. Nothing that could name a person leaves
this module: reasons never quote the file.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cxrsynth.data.dicom_fields import MODALITIES, DicomError, code, number, turn_of, view
from cxrsynth.data.paths import trouble
from cxrsynth.errors import MissingError

SUFFIXES = {".dcm", ".dicom", ".dic"}
PREAMBLE = 128  # bytes before the letters DICM
MOST_PIXELS = 100_000_000
COMPUTED = "1.2.840.10008.5.1.4.1.1.1"
DIGITAL = ("1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1.1")  # for presentation, for processing
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
BODY = {"", "CHEST", "THORAX", "LUNG", "LUNGS", "RIB", "RIBS", "HEART", "TORSO", "PORT CHEST", "CHEST_TO_PELVIS"}


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its first bytes, or by an ending that only DICOM has."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if trouble(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM"
    except OSError:
        return False


def library() -> ModuleType:
    """pydicom with its decoders.

    Raises:
        MissingError: it is not installed.
    """
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise MissingError(
            "this is a DICOM file, and pydicom is not installed", "pip install 'cxrsynth[dicom]'"
        ) from error
    return pydicom


@contextmanager
def quiet() -> Iterator[None]:
    """pydicom's warnings and log quote the values that they complain about: nobody shall see them."""
    log, silent = logging.getLogger("pydicom"), logging.NullHandler()
    before = log.propagate
    log.propagate = False
    log.addHandler(silent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.removeHandler(silent)
        log.propagate = before


def read_header(path: Path) -> Any:
    """The attributes of a file without its pixels.

    Raises:
        DicomError: it cannot be read.
        MissingError: pydicom is not installed.
    """
    return read_dataset(path, stop_before_pixels=True)


def read_dicom(path: Path) -> tuple[np.ndarray, list[str]]:
    """Read one radiograph as it is meant to be seen.

    Rescale or modality LUT, then VOI LUT or window, MONOCHROME1 turned over, upright as ``PatientOrientation`` says.

    Returns:
        (H, W) float32 of any range, bright is dense; notes on what was changed.

    Raises:
        DicomError: no radiograph of a chest from the front, several frames, burnt-in text, or corrupt.
        MissingError: pydicom, or the decoder of this file, is not installed.
    """
    dataset = read_dataset(path)
    check(dataset)
    array, notes = _pixels(dataset)
    turn = turn_of(dataset)
    if turn:
        notes.append("turned upright as PatientOrientation says")
    return np.ascontiguousarray(turn(array)), notes


def read_dataset(path: Path, **options: Any) -> Any:
    """All attributes of a file.

    Raises:
        DicomError: it cannot be read, or is no image.
        MissingError: pydicom is not installed.
    """
    pydicom = library()
    reason = trouble(path)
    if reason:
        raise DicomError(reason)
    try:
        with quiet():
            dataset = pydicom.dcmread(path, force=path.suffix.lower() in SUFFIXES, **options)
            if "SOPClassUID" not in dataset:
                raise DicomError("no DICOM image")
            return dataset
    except (pydicom.errors.InvalidDicomError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError,
            NotImplementedError, RecursionError, MemoryError) as error:  # fmt: skip
        raise DicomError(f"corrupt DICOM: {type(error).__name__}") from None


def check(dataset: Any) -> None:
    """Whether a file shows a chest from the front and nobody's name.

    Raises:
        DicomError: it does not; the message says why.
    """
    kind = str(dataset.SOPClassUID)
    if kind not in (COMPUTED, *DIGITAL, CAPTURE) or (kind == CAPTURE and code(dataset, "Modality") not in MODALITIES):
        raise DicomError(f"no radiograph: {_known(dataset.SOPClassUID)}")
    if number(dataset, "NumberOfFrames", 1) != 1:
        raise DicomError(f"multi-frame: {number(dataset, 'NumberOfFrames', 1):.0f} frames, one image is read")
    if code(dataset, "BurnedInAnnotation") == "YES":
        raise DicomError("burnt-in annotation: the pixels may name the patient")
    if code(dataset, "BodyPartExamined") not in BODY:
        raise DicomError("BodyPartExamined is not the chest")
    view(dataset)
    if number(dataset, "BitsAllocated", 0) not in (8, 16) or not 8 <= number(dataset, "BitsStored", 0) <= 16:
        raise DicomError("pixels of other than 8 to 16 bits")
    if not 0 < number(dataset, "Rows", 0) * number(dataset, "Columns", 0) <= MOST_PIXELS:
        raise DicomError("no size, or more than 100 million pixels")


def _pixels(dataset: Any) -> tuple[np.ndarray, list[str]]:
    """(H, W) float32 as displayed, bright is dense, with notes."""
    pydicom = library()
    pixels = pydicom.pixels
    syntax = _syntax(dataset)
    decodable(dataset, syntax)
    notes: list[str] = []
    try:
        with quiet():
            raw = pixels.pixel_array(dataset)
            if raw.ndim == 3:
                return _gray(raw), ["gray stored as colour"]
            toned = pixels.apply_modality_lut(raw, dataset)
            seen = _windowed(pixels, toned, dataset, notes)
    except DicomError:
        raise
    except Exception as error:  # decoders of many packages raise what they like
        raise DicomError(f"corrupt DICOM: {type(error).__name__} while decoding {_known(syntax)}") from None
    array = np.asarray(seen, np.float32)
    if code(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        array = array.max() + array.min() - array
        notes.append("MONOCHROME1 inverted")
    padding = _padding(raw, dataset)
    if padding is not None and padding.any() and not padding.all():
        array = np.where(padding, array[~padding].min(), array)
        notes.append("padding made black")
    if code(dataset, "PresentationIntentType") == "FOR PROCESSING":
        notes.append("for processing: tones are those of the detector")
    return array, notes


def decodable(dataset: Any, syntax: Any) -> None:
    """Whether the pixels can be decoded here.

    Raises:
        DicomError: the extra ``dicom`` has no decoder for them.
        MissingError: it has one, which is not installed.
    """
    pydicom = library()
    if not (syntax.is_compressed and syntax.is_encapsulated):
        return
    try:
        plugins = pydicom.pixels.get_decoder(syntax).available_plugins
    except NotImplementedError:
        raise DicomError(f"cannot decode {_known(syntax)}") from None
    # The one free decoder of these is under the GPL, so it is the user's choice.
    if syntax == pydicom.uid.JPEGExtended12Bit and number(dataset, "BitsStored", 0) > 8 and "pylibjpeg" not in plugins:
        raise DicomError("12-bit lossy JPEG needs another decoder: pip install pylibjpeg-libjpeg")
    if not plugins:
        raise MissingError(f"the decoder of {_known(syntax)} is not installed", "pip install 'cxrsynth[dicom]'")


def _windowed(pixels: ModuleType, toned: np.ndarray, dataset: Any, notes: list[str]) -> np.ndarray:
    """VOI LUT or the first window; left out with a note where it leaves a single tone or makes no sense."""
    try:
        seen: np.ndarray = pixels.apply_voi_lut(toned, dataset)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        notes.append("VOI LUT or window is not valid, left out")
        return toned
    low, high = np.percentile(seen, (1, 99))
    if high <= low:
        notes.append("VOI LUT or window leaves a single tone, left out")
        return toned
    return seen


def _padding(raw: np.ndarray, dataset: Any) -> np.ndarray | None:
    """(H, W) bool, pixels outside the radiograph, or None where the file knows none."""
    if "PixelPaddingValue" not in dataset:
        return None
    edges = [int(number(dataset, "PixelPaddingValue", 0))]
    edges.append(int(number(dataset, "PixelPaddingRangeLimit", edges[0])))
    return (raw >= min(edges)) & (raw <= max(edges))


def _gray(raw: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W) float32 where all channels are alike.

    Raises:
        DicomError: they are not.
    """
    channels = raw[..., :3].astype(np.float32)
    spread = float((channels.max(axis=2) - channels.min(axis=2)).mean()) / np.iinfo(raw.dtype).max
    if spread > 4 / 255:
        raise DicomError("in colour")
    return channels.mean(axis=2)


def _syntax(dataset: Any) -> Any:
    """The transfer syntax; old files without a head are implicit little endian."""
    pydicom = library()
    meta = getattr(dataset, "file_meta", None)
    if meta is None or "TransferSyntaxUID" not in meta:
        dataset.ensure_file_meta()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    return dataset.file_meta.TransferSyntaxUID


def _known(uid: Any) -> str:
    """The name of a standard UID; others may be anybody's and stay unsaid."""
    name = str(uid.name)
    return name if name != str(uid) else "a private kind"
