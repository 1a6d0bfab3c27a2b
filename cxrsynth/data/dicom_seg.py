"""DICOM segmentations: class masks that refer to the image they belong to, with a SNOMED code for every class."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxrsynth import __version__
from cxrsynth.data.dicom import library, quiet
from cxrsynth.data.dicom_fields import DicomError, code
from cxrsynth.domain.snomed import CHEST, Code, coded, named
from cxrsynth.errors import MissingError

MAKER, MODEL = "cxrsynth", "cxrsynth"
STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
PATIENT_AND_STUDY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime",
)  # fmt: skip
# Files carry no time of writing: the same masks give the same bytes.
DAY, TIME = "20000101", "000000"
UNTIMED = (
    "InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime", "DateOfSecondaryCapture",
    "TimeOfSecondaryCapture",
)  # fmt: skip


def highdicom() -> Any:
    """highdicom.

    Raises:
        MissingError: it is not installed.
    """
    try:
        import highdicom
        import highdicom.seg
    except ImportError as error:
        raise MissingError(
            "DICOM segmentations need highdicom, which is not installed", "pip install 'cxrsynth[dicom]'"
        ) from error
    return highdicom


def uid(*parts: object) -> str:
    """A UID that belongs to ``parts``: 2.25 and 128 bits of their hash (DICOM PS3.5 B.2)."""
    found = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(found[:16], 'big')}"


def segmentation(source: Any, regions: Mapping[str, np.ndarray], findings: Collection[str], made_by: str) -> bytes:
    """The bytes of a segmentation of one image.

    Args:
        source: the DICOM image; patient, study and position are taken from it. What the standard wants and it lacks is
            added to it, empty.
        regions: class name -> (H, W) bool, of the image's size and position; classes may overlap.
        findings: names of the classes that are findings and no anatomy, where their code is not known.
        made_by: name of what drew the masks.

    Raises:
        ValueError: no region, or one of another size.
    """
    hd = highdicom()
    if not regions or any(region.shape != (source.Rows, source.Columns) for region in regions.values()):
        raise ValueError(f"expected regions of {source.Rows} x {source.Columns} pixels")
    with quiet():
        complete(source)
    by = hd.AlgorithmIdentificationSequence(
        name=made_by[:64],
        version=__version__,
        family=concept(Code("123110", "Artificial Intelligence", "DCM")),
    )
    key = (source.SOPInstanceUID, made_by, *regions)
    described = []
    for number, name in enumerate(regions, start=1):
        category, kind = coded(name, name in findings)
        described.append(
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=name[:64],
                segmented_property_category=concept(category),
                segmented_property_type=concept(kind),
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=by,
                tracking_uid=uid(*key, "segment", name),
                tracking_id=name[:64],
                anatomic_regions=[concept(CHEST)],
            )
        )
    with quiet():
        dataset = hd.seg.Segmentation(
            source_images=[source],
            pixel_array=np.stack(list(regions.values()), axis=-1)[None].astype(np.uint8),  # (1, H, W, K)
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=described,
            series_instance_uid=uid(*key, "series"),
            series_number=300,
            sop_instance_uid=uid(*key, "masks"),
            instance_number=1,
            manufacturer=MAKER,
            manufacturer_model_name=MODEL,
            software_versions=__version__,
            device_serial_number="0",
            specific_character_set="ISO_IR 192",  # UTF-8, whatever the image is written in
            content_label="CHEST",
            content_description="Masks of a chest radiograph",
        )
    for measures in dataset.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence", []):
        # A projection has no thickness, but readers of segmentations insist on one.
        measures.SliceThickness = measures.get("SliceThickness", 1.0)
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid(*key, "dimensions")
    dataset.SeriesDescription = f"Masks by {made_by}"[:64]
    return written(dataset)


def complete(source: Any) -> None:
    """Give an image every attribute of patient and study that the standard wants, empty where it is absent or invalid.

    Files that were made anonymous often lack them.
    """
    kinds = library().valuerep
    for name in PATIENT_AND_STUDY:
        if name not in source:
            setattr(source, name, "")
    if code(source, "PatientSex") not in ("M", "F", "O"):
        source.PatientSex = ""
    for name, kind in (("PatientBirthDate", kinds.DA), ("StudyDate", kinds.DA), ("StudyTime", kinds.TM)):
        try:
            kind(str(source.get(name) or ""))
        except ValueError:
            setattr(source, name, "")
    for name in ("StudyInstanceUID", "SeriesInstanceUID"):
        if not source.get(name):
            setattr(source, name, uid(source.SOPInstanceUID, name))


def concept(known: Code) -> Any:
    """A code as highdicom knows it."""
    return highdicom().sr.CodedConcept(known.value, known.scheme, known.meaning)


def written(dataset: Any) -> bytes:
    """The bytes of a file, without the time at which it was made."""
    for name in UNTIMED:
        if name in dataset:
            delattr(dataset, name)
    for tool in dataset.get("ContributingEquipmentSequence", []):
        tool.pop("ContributionDateTime", None)
    dataset.ContentDate, dataset.ContentTime = DAY, TIME
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def is_segmentation(path: Path) -> bool:
    """Whether a DICOM file holds a segmentation.

    Raises:
        MissingError: pydicom is not installed.
    """
    pydicom = library()
    try:
        with quiet():
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
        return str(header.get("SOPClassUID", "")) == STORAGE
    except Exception:  # whatever else it is, it is none
        return False


def read_segmentation(path: Path) -> dict[str, np.ndarray]:
    """Class name -> (H, W) bool; a segment with a code that is not known has its label as name.

    Raises:
        DicomError: no segmentation of one image, or corrupt.
        MissingError: highdicom is not installed.
    """
    hd = highdicom()
    try:
        with quiet():
            dataset = hd.seg.segread(path)
            sources = [instance for _, _, instance in dataset.get_source_image_uids()]
            if len(sources) != 1:
                raise DicomError(f"a segmentation of {len(sources)} images, expected one")
            numbers = list(dataset.segment_numbers)
            pixels = dataset.get_pixels_by_source_instance(
                sources, segment_numbers=numbers, rescale_fractional=True, assert_missing_frames_are_empty=True
            )[0]  # (H, W, K)
            kinds = [dataset.get_segment_description(number) for number in numbers]
            names = [
                class_name(str(one.segment_label), str(kind.value), str(kind.scheme_designator))
                for one in kinds
                for kind in [one.segmented_property_type]
            ]
    except (DicomError, MissingError):
        raise
    except Exception as error:  # a file of anybody's: many packages raise what they like
        raise DicomError(f"corrupt DICOM segmentation: {type(error).__name__}") from None
    return {name: pixels[..., i] >= 0.5 for i, name in enumerate(names)}


@dataclass(frozen=True, slots=True)
class Described:
    """What a segmentation says of itself.

    Attributes:
        image: UID of the image that its masks belong to.
        person: number of the patient; nobody shall see it.
        classes: names of the classes, in the order of the segments.
    """

    image: str
    person: str
    classes: tuple[str, ...]


def describe(path: Path) -> Described:
    """Read what a segmentation says of itself, without its masks.

    Raises:
        DicomError: no segmentation of one image, or corrupt.
        MissingError: pydicom is not installed.
    """
    pydicom = library()
    try:
        with quiet():
            header = pydicom.dcmread(path, stop_before_pixels=True)
            series = header.get("ReferencedSeriesSequence") or []
            images = [str(one.ReferencedSOPInstanceUID) for item in series for one in item.ReferencedInstanceSequence]
            names = []
            for item in header.SegmentSequence:
                kind = item.SegmentedPropertyTypeCodeSequence[0]
                names.append(class_name(str(item.SegmentLabel), str(kind.CodeValue), str(kind.CodingSchemeDesignator)))
    except Exception as error:  # a file of anybody's may raise anything
        raise DicomError(f"corrupt DICOM segmentation: {type(error).__name__}") from None
    if len(images) != 1:
        raise DicomError(f"a segmentation of {len(images)} images, expected one")
    return Described(images[0], str(header.get("PatientID") or ""), tuple(names))


def class_name(label: str, value: str, scheme: str) -> str:
    """The class that a segment shows, by its code; by its label where the code is not known."""
    label = label.strip().lower().replace(" ", "_")
    found = named(Code(value, "", scheme))
    # Two definitions of a class share a code; the label tells them apart.
    return label if found is None or coded(label)[1] == coded(found)[1] else found
