"""Settings that several trainings share, and how a training recipe is read; a typo is an error when it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from cxrsynth.errors import RecipeError
from cxrsynth.recipe import explain, put, read
from cxrsynth.recipe.part import Part


class NoiseConfig(Part):
    """Which noise is learned from, and what is predicted."""

    prediction: Literal["base", "epsilon", "v_prediction"] = "base"
    zero_snr: bool | None = Field(
        None,
        description="zero SNR at the last step (Lin et al., WACV 2024), needs v_prediction; as the base by default",
    )
    offset: float = Field(0.0, ge=0, description="deviation of a common offset per channel; 0.05 to 0.1 is usual")
    snr_gamma: float | None = Field(5.0, gt=0, description="min-SNR (Hang et al., ICCV 2023); null weighs all alike")


class GroundingConfig(Part):
    """Loss that makes phrases look where their masks are (TokenCompose, CVPR 2024, eq. 3 and 4).

    Anatomy and findings are read from a text each: a finding lies over the anatomy and shall not take its attention.
    """

    phrases: dict[str, str] = Field(
        default_factory=lambda: {"right_lung": "right lung", "left_lung": "left lung", "heart": "heart"},
        description="class of the anatomy -> its phrase; reference masks of images say where it is",
    )
    findings: dict[str, str] = Field(
        default_factory=dict, description="finding -> its phrase; masks of simulated findings say where it is"
    )
    levels: tuple[int, ...] = (1, 2)
    images_per_batch: int = Field(
        4, ge=0, description="images with reference masks in every batch; 0 trains without grounding"
    )
    findings_per_batch: int = Field(0, ge=0, description="images with simulated findings in every batch")
    token_weight: float = Field(0.1, ge=0)
    pixel_weight: float = Field(0.1, ge=0)

    @property
    def names(self) -> list[str]:
        """All classes: the anatomy, then the findings."""
        return [*self.phrases, *self.findings]

    @property
    def groups(self) -> list[dict[str, str]]:
        """Classes and phrases that share a text."""
        return [group for group in (self.phrases, self.findings) if group]


AnyRecipe = TypeVar("AnyRecipe", bound=Part)


def load_as(kind: type[AnyRecipe], path: Path, overrides: dict[str, Any] | None = None) -> AnyRecipe:
    """A training recipe: a YAML file or the name of a bundled one (``recipes/train/mini.yaml``).

    Args:
        overrides: dotted name (``training.updates``) -> value.

    Raises:
        RecipeError: the file is missing, no YAML, or has a wrong key or value; the message names it.
    """
    file, body = read(path)
    for name, value in (overrides or {}).items():
        put(body, name, value)
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise RecipeError(f"{file}: {explain(error, kind)}", "correct it in the recipe") from None
