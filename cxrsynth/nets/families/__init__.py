"""Families of text-to-image models, one adapter each, chosen by what ``model_index.json`` calls the pipeline."""

from __future__ import annotations

from pathlib import Path

import torch

from cxrsynth.errors import MissingError
from cxrsynth.nets import parts
from cxrsynth.nets.families.base import Model
from cxrsynth.nets.families.flux import Flux
from cxrsynth.nets.families.pixart import PixArt
from cxrsynth.nets.families.sana import Sana
from cxrsynth.nets.families.sd import StableDiffusion
from cxrsynth.nets.families.sd3 import StableDiffusion3
from cxrsynth.nets.families.sdxl import StableDiffusionXL

FAMILIES: tuple[type[Model], ...] = (StableDiffusion, StableDiffusionXL, PixArt, Sana, StableDiffusion3, Flux)


def family_of(folder: Path) -> type[Model]:
    """The adapter for the model in a folder, without loading it.

    Raises:
        MissingError: no adapter knows this pipeline; the supported ones are listed.
    """
    kind = parts.index(folder).get("_class_name", "StableDiffusionPipeline")
    for family in FAMILIES:
        if kind in family.pipelines:
            return family
    known = ", ".join(f"{family.family} ({', '.join(family.pipelines)})" for family in FAMILIES)
    raise MissingError(f"the model in {folder} is a {kind}, which is not supported", f"supported: {known}")


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> Model:
    """Load the model in a folder.

    Raises:
        MissingError: its family is not supported, or a part is missing or damaged.
    """
    return family_of(folder)(folder, device, dtype)
