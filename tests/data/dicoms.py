"""DICOM files for tests: all that names somebody is filled in, and every transfer syntax that can be encoded."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

CR = "1.2.840.10008.5.1.4.1.1.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
SC = "1.2.840.10008.5.1.4.1.1.7"

# Text and dates that point at somebody; all are searched for in what the package writes.
PHI = {
    "PatientName": "Quixote^Alonso^Hidalgo",
    "PatientID": "MRN-7741-LMNCHA",
    "IssuerOfPatientID": "Hospital-of-Toboso",
    "OtherPatientIDs": "SSN-923-55-1047",
    "PatientBirthDate": "19470917",
    "PatientAddress": "Windmill Lane 16",
    "PatientTelephoneNumbers": "+34-555-016-1605",
    "PatientMotherBirthName": "Dulcinea",
    "PatientComments": "fell off Rocinante",
    "StudyDate": "20160423",
    "SeriesDate": "20160424",
    "AcquisitionDate": "20160425",
    "ContentDate": "20160426",
    "StudyTime": "161616.161",
    "AccessionNumber": "ACC-88163520",
    "StudyID": "STUDY-4471",
    "StudyDescription": "Thorax of Quijano",
    "SeriesDescription": "Torso of Quijano",
    "InstitutionName": "Saint Cervantes Infirmary",
    "InstitutionAddress": "Calle Mayor 48",
    "ReferringPhysicianName": "Panza^Sancho",
    "PerformingPhysicianName": "Carrasco^Sanson",
    "OperatorsName": "Maritornes",
    "StationName": "ARGAMASILLA-3",
    "DeviceSerialNumber": "SN-0099471",
    "RequestingPhysician": "Perez^Pero",
    "ImageComments": "seen by the barber Nicolas",
    "AdditionalPatientHistory": "charged at windmills",
    "Occupation": "knight errant",
}
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


def header(number: int = 0, kind: str = DX, **attributes: Any) -> Dataset:
    """A DX image of an adult man in PA view, with everything about him; ``None`` removes an attribute."""
    dataset = Dataset()
    dataset.SOPClassUID = kind
    for name in UIDS:
        setattr(dataset, name, generate_uid(entropy_srcs=[name, str(number)]))
    body = {
        **PHI,
        "Modality": {CR: "CR", DX: "DX", SC: "OT"}.get(kind, "CT"),
        "PatientSex": "M",
        "PatientAge": "058Y",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PatientOrientation": ["L", "F"],
        "PixelSpacing": [0.7, 0.7],
        "Laterality": "",
        **attributes,
    }
    for name, value in body.items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.add_new(0x00091010, "LO", "Private of Barataria")
    return dataset


def make(
    path: Path,
    pixels: np.ndarray,
    syntax: UID = ExplicitVRLittleEndian,
    *,
    bits: int = 12,
    number: int = 0,
    kind: str = DX,
    **attributes: Any,
) -> Dataset:
    """Write (H, W) pixels of ``bits`` bits as a DICOM file; returns what was written."""
    dataset = header(number, kind, **attributes)
    frames = pixels.shape[0] if pixels.ndim == 3 and pixels.shape[2] != 3 else 1
    colour = pixels.ndim == 3 and frames == 1
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    if frames > 1:
        dataset.NumberOfFrames = frames
    dataset.SamplesPerPixel = 3 if colour else 1
    if colour:
        dataset.PlanarConfiguration = 0
    if "PhotometricInterpretation" not in dataset:
        dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    wide = bits > 8
    dataset.BitsAllocated = 16 if wide else 8
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    signed = "i" if dataset.PixelRepresentation else "u"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.PixelData = pixels.astype(f"<{signed}{2 if wide else 1}").tobytes()
    if len(dataset.PixelData) % 2:
        dataset.PixelData += b"\0"
    encode(dataset, pixels, syntax)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return dataset


def encode(dataset: Dataset, pixels: np.ndarray, syntax: UID) -> None:
    """Bring uncompressed pixels into a transfer syntax."""
    if syntax in (pydicom.uid.ImplicitVRLittleEndian, pydicom.uid.DeflatedExplicitVRLittleEndian):
        dataset.file_meta.TransferSyntaxUID = syntax
    elif syntax == pydicom.uid.ExplicitVRBigEndian:
        dataset.PixelData = pixels.astype(f">u{dataset.BitsAllocated // 8}").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
    elif syntax in (
        pydicom.uid.JPEGBaseline8Bit,
        pydicom.uid.JPEGExtended12Bit,
        pydicom.uid.JPEGLossless,
        pydicom.uid.JPEGLosslessSV1,
    ):
        by_gdcm(dataset, syntax)
    elif syntax.is_compressed:
        lossy = {"jls_error": 2} if syntax == pydicom.uid.JPEGLSNearLossless else {}
        lossy |= {"j2k_cr": [5]} if syntax == pydicom.uid.JPEG2000 else {}
        dataset.compress(syntax, generate_instance_uid=False, **lossy)


def by_gdcm(dataset: Dataset, syntax: UID) -> None:
    """JPEG, lossy and lossless: pydicom has no encoder of its own."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = f"{folder}/plain", f"{folder}/packed"
        Path(plain).write_bytes(buffer.getvalue())
        reader = gdcm.ImageReader()
        reader.SetFileName(plain)
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
        change.SetInput(reader.GetImage())
        assert change.Change(), f"gdcm cannot encode {syntax.name}"
        writer = gdcm.ImageWriter()
        writer.SetFileName(packed)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        found = pydicom.dcmread(packed)
    dataset.file_meta.TransferSyntaxUID = found.file_meta.TransferSyntaxUID
    dataset.PixelData = encapsulate(list(pydicom.encaps.generate_frames(found.PixelData, number_of_frames=1)))
    dataset["PixelData"].is_undefined_length = True
