"""Curation: checks with reasons; what passes them all is kept."""

from cxrsynth.curate.agreement import Agreement
from cxrsynth.curate.anatomy import Border, Laterality
from cxrsynth.curate.image import Duplicate, Finite
from cxrsynth.curate.regions import Area, Present, Stability
from cxrsynth.curate.verdict import build, decide

__all__ = [
    "Agreement",
    "Area",
    "Border",
    "Duplicate",
    "Finite",
    "Laterality",
    "Present",
    "Stability",
    "build",
    "decide",
]
