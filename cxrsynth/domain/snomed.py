"""SNOMED CT codes of the classes, for DICOM: what a segment is, in words that every hospital's software knows.

Source: SNOMED CT International, as used in DICOM PS3.16. A class that is not here gets a code of this package's own
scheme, so that nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEME = "SCT"
OWN_SCHEME = "99CXRSYNTH"


@dataclass(frozen=True, slots=True)
class Code:
    """One coded concept.

    Attributes:
        value: code value.
        meaning: in words.
        scheme: coding scheme designator.
    """

    value: str
    meaning: str
    scheme: str = SCHEME


ANATOMY = Code("123037004", "Anatomical Structure")
ABNORMAL = Code("49755003", "Morphologically Abnormal Structure")
CHEST = Code("43799004", "Chest")

STRUCTURES = {
    "right_lung": Code("3341006", "Right lung"),
    "left_lung": Code("44029006", "Left lung"),
    "lung": Code("39607008", "Lung"),
    "heart": Code("80891009", "Heart"),
    "mediastinum": Code("72410000", "Mediastinum"),
    "clavicle": Code("51299004", "Clavicle"),
    "rib": Code("113197003", "Rib"),
    "trachea": Code("44567001", "Trachea"),
    "diaphragm": Code("5798000", "Diaphragm"),
}
FINDINGS = {
    "atelectasis": Code("46621007", "Atelectasis"),
    "cardiomegaly": Code("8186001", "Cardiomegaly"),
    "consolidation": Code("95436008", "Consolidation of lung"),
    "covid": Code("840539006", "COVID-19"),
    "edema": Code("19242006", "Pulmonary edema"),
    "effusion": Code("60046008", "Pleural effusion"),
    "emphysema": Code("87433001", "Pulmonary emphysema"),
    "fibrosis": Code("112674009", "Fibrosis"),
    "infiltration": Code("409609008", "Radiologic infiltrate of lung"),
    "mass": Code("4147007", "Mass"),
    "nodule": Code("27925004", "Nodule"),
    "opacity": Code("129807000", "Difference in opacity"),
    "pneumonia": Code("233604007", "Pneumonia"),
    "pneumothorax": Code("36118008", "Pneumothorax"),
    "tuberculosis": Code("154283005", "Pulmonary tuberculosis"),
}
# Other names of the same classes.
ALIASES = {
    "pleural_effusion": "effusion",
    "pulmonary_edema": "edema",
    "covid-19": "covid",
    "right_lung_v7": "right_lung",
    "left_lung_v7": "left_lung",
}


def coded(name: str, finding: bool = False) -> tuple[Code, Code]:
    """(category, type) of a class; ``finding`` decides the category of a class that has no code."""
    known = ALIASES.get(name, name)
    if known in STRUCTURES:
        return ANATOMY, STRUCTURES[known]
    if known in FINDINGS:
        return ABNORMAL, FINDINGS[known]
    # Code values hold at most 16 characters, meanings 64.
    return ABNORMAL if finding else ANATOMY, Code(name[:16], name.replace("_", " ")[:64], OWN_SCHEME)


def named(code: Code) -> str | None:
    """The class that a code stands for, or None."""
    for name, known in (STRUCTURES | FINDINGS).items():
        if (known.value, known.scheme) == (code.value, code.scheme):
            return name
    return None
