"""The Python interface: what ``import cxrsynth`` offers. Every function does what the command of its name does.

Nothing here keeps state between calls, and nothing is imported before it is used.
"""

from cxrsynth.api.annotation import annotate
from cxrsynth.api.conversion import export
from cxrsynth.api.dataset import Dataset
from cxrsynth.api.generation import generate
from cxrsynth.api.image import LabelledImage

__all__ = ["Dataset", "LabelledImage", "annotate", "export", "generate"]
