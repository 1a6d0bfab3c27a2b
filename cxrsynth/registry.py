"""Names that a recipe or the command line may use, and where their code lives.

A value is ``"module:attribute"`` and is imported only when it is used, so that ``--help`` imports no torch.
Other packages add names through the entry-point groups ``cxrsynth.<kind>``.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from cxrsynth.errors import UsageError

BUILTIN: dict[str, dict[str, str]] = {
    "generators": {
        "latent": "cxrsynth.generate.sampler:Latent",
        "phantom": "cxrsynth.generate.phantom:Phantom",
    },
    "normalisers": {
        "joint": "cxrsynth.masks.attention:Joint",
    },
    "refiners": {
        "crf": "cxrsynth.masks.crf:Crf",
        "morphology": "cxrsynth.masks.morphology:Morphology",
        "laterality": "cxrsynth.masks.laterality:Laterality",
        "affinity": "cxrsynth.masks.affinity:Affinity",
        "adaptive": "cxrsynth.masks.threshold:Adaptive",
        "sequential": "cxrsynth.masks.fusion:Sequential",
        "cross": "cxrsynth.masks.fusion:Cross",
        "selfattention": "cxrsynth.masks.selfattention:SelfAttention",
        "mask_head": "cxrsynth.masks.mask_head:MaskHead",
    },
    "checks": {
        "finite": "cxrsynth.curate:Finite",
        "present": "cxrsynth.curate:Present",
        "area": "cxrsynth.curate:Area",
        "stability": "cxrsynth.curate:Stability",
        "laterality": "cxrsynth.curate:Laterality",
        "border": "cxrsynth.curate:Border",
        "duplicate": "cxrsynth.curate:Duplicate",
        "agreement": "cxrsynth.curate:Agreement",
    },
    "engines": {
        "local": "cxrsynth.factory.engines.local:Local",
        "ray": "cxrsynth.factory.engines.ray:Ray",
    },
    "layouts": {
        "collection": "cxrsynth.ingest.collection:Collection",
        "folder": "cxrsynth.ingest.folder:Folder",
        "dicom": "cxrsynth.ingest.dicom:Dicom",
    },
    "exports": {
        "hf": "cxrsynth.export.hf:HuggingFace",
        "nnunet": "cxrsynth.export.nnunet:NnUnet",
        "coco": "cxrsynth.export.coco:Coco",
        "yolo": "cxrsynth.export.yolo:Yolo",
        "webdataset": "cxrsynth.export.webdataset:WebDataset",
        "monai": "cxrsynth.export.monai:Monai",
        "dicom": "cxrsynth.export.dicom:Dicom",
    },
}


@cache
def table(kind: str) -> dict[str, str]:
    """All known names of a kind, ``name -> "module:attribute"``, built-in names first."""
    found = dict(BUILTIN[kind])
    for point in entry_points(group=f"cxrsynth.{kind}"):
        found.setdefault(point.name, point.value)
    return found


def names(kind: str) -> list[str]:
    """The known names of a kind, sorted."""
    return sorted(table(kind))


def unknown(kind: str, name: str, known: list[str]) -> UsageError:
    """The error for a name that is not known: it lists the right ones and guesses which was meant."""
    close = get_close_matches(name, known, n=1)
    guess = f"did you mean '{close[0]}'? " if close else ""
    return UsageError(f"unknown {kind.rstrip('s')} '{name}'", f"{guess}known: {', '.join(known)}")


def load(kind: str, name: str) -> Any:
    """The class behind a name.

    Raises:
        UsageError: the name is not known; the message lists the right ones.
    """
    entries = table(kind)
    if name not in entries:
        raise unknown(kind, name, names(kind))
    module, _, attribute = entries[name].partition(":")
    return getattr(import_module(module), attribute)
