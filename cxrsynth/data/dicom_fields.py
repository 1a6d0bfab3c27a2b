"""What may be known about a DICOM radiograph without knowing whose it is.

Every field is a number or a word of a fixed vocabulary, so that nothing of a file's free text passes.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from cxrsynth.data.tables import age as years
from cxrsynth.data.upright import Turn

# What a file may say that it shows.
MODALITIES = {"", "CR", "DX", "DR", "RG", "OT", "SC"}
# Ages above this one are few enough to point at somebody (45 CFR 164.514(b)(2)(i)(C)).
OLDEST = 90.0
LATERAL = re.compile(r"\b(LATERAL|LAT|LL|RL)\b")
OBLIQUE = re.compile(r"\b(OBLIQUE|LAO|RAO|LPO|RPO|LLO|RLO)\b")
LYING = re.compile(r"\b(DECUBITUS|LLD|RLD)\b")
WIDEST = 5.0  # mm between pixels; more is no radiograph


class DicomError(Exception):
    """A DICOM file that is set aside; the message is the machine-readable reason and quotes nothing of the file."""


def fields(dataset: Any) -> dict[str, Any]:
    """View, laterality, sex, age in years, modality, and mm between rows and columns of the upright image.

    A field that the file lacks, or that holds anything unexpected, is empty or None.

    Raises:
        DicomError: a view that is not from the front.
    """
    sex, side = code(dataset, "PatientSex"), code(dataset, "ImageLaterality") or code(dataset, "Laterality")
    modality = code(dataset, "Modality")
    return {
        "view": view(dataset),
        "laterality": side if side in ("L", "R", "B", "U") else "",
        "sex": sex if sex in ("M", "F", "O") else "",
        "age": age(dataset),
        "modality": modality if modality in MODALITIES else "",
        "pixel_spacing": spacing(dataset),
    }


def age(dataset: Any) -> float | None:
    """Years at the study, from ``PatientAge`` (``058Y``, ``018M``, ``003W``, ``010D``) or the two dates; at most 90."""
    try:
        found = years(code(dataset, "PatientAge"))
    except ValueError:
        found = None
    if found is None:
        born, seen = (day(code(dataset, name)) for name in ("PatientBirthDate", "StudyDate"))
        if born is None or seen is None or seen < born:
            return None
        found = (seen - born).days / 365.25
    return min(float(int(found)) if found >= 2 else round(found, 2), OLDEST)


def day(text: str) -> date | None:
    """``19580412`` -> the day, None for anything else."""
    try:
        return date.fromisoformat(text.replace(".", ""))
    except ValueError:
        return None


def spacing(dataset: Any) -> list[float] | None:
    """mm between rows and between columns, at the patient where the file knows it, otherwise at the detector."""
    shrunk = number(dataset, "EstimatedRadiographicMagnificationFactor", 1.0)
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        try:
            found = [float(value) for value in dataset.get(name) or []]
        except (TypeError, ValueError):
            continue
        factor = shrunk if name == "ImagerPixelSpacing" and 1 <= shrunk <= 2 else 1.0
        found = [round(value / factor, 5) for value in found]
        if len(found) == 2 and all(0 < value < WIDEST for value in found):
            return found[::-1] if turn_of(dataset).transpose else found
    return None


def view(dataset: Any) -> str:
    """``PA``, ``AP``, or nothing where the file does not say.

    Raises:
        DicomError: a lateral, oblique or decubitus view.
    """
    said = code(dataset, "ViewPosition")
    meanings = " ".join(str(item.get("CodeMeaning", "")) for item in dataset.get("ViewCodeSequence") or [])
    told = re.sub(r"[^A-Z]+", " ", f"{said} {meanings}".upper())
    series = re.sub(r"[^A-Z]+", " ", f"{code(dataset, 'SeriesDescription')} {code(dataset, 'ProtocolName')}")
    if LYING.search(told):
        raise DicomError("decubitus view (ViewPosition)")
    if OBLIQUE.search(told):
        raise DicomError("oblique view (ViewPosition)")
    if LATERAL.search(told):
        raise DicomError("lateral view (ViewPosition)")
    if orientation(dataset) & {"A", "P"}:
        raise DicomError("lateral view (PatientOrientation)")
    if re.search(r"\bPA\b|POSTERO ?ANTERIOR|POSTERIOR ANTERIOR", told):
        return "PA"
    if re.search(r"\bAP\b|ANTERO ?POSTERIOR|ANTERIOR POSTERIOR", told):
        return "AP"
    if re.search(r"\b(LATERAL|LAT)\b", series) and not re.search(r"\b(PA|AP)\b", series):
        raise DicomError("lateral view (SeriesDescription)")
    return ""


def orientation(dataset: Any) -> set[str]:
    """The first letters of ``PatientOrientation``."""
    return {str(value)[:1].upper() for value in dataset.get("PatientOrientation") or []} - {""}


def turn_of(dataset: Any) -> Turn:
    """What ``PatientOrientation`` asks for; nothing where it is absent or says something else."""
    values = [str(value)[:1].upper() for value in dataset.get("PatientOrientation") or []]
    if len(values) != 2:
        return Turn()
    along, down = values
    swapped = {along} <= {"H", "F"} and {down} <= {"L", "R"}
    if swapped:
        along, down = down, along
    if not ({along} <= {"L", "R"} and {down} <= {"H", "F"}):
        return Turn()
    return Turn(swapped, along == "R", down == "H")


def code(dataset: Any, name: str) -> str:
    """An attribute as upper-case text, empty where it is absent."""
    value = dataset.get(name)
    return "" if value is None else str(value).strip().upper()


def number(dataset: Any, name: str, default: float) -> float:
    """An attribute as a number, ``default`` where it is absent or none."""
    try:
        return float(dataset.get(name, default))
    except (TypeError, ValueError):
        return default
