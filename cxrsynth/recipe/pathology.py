"""The findings of a ``control:`` block: what may be put where, how severe, and how the model is asked for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from cxrsynth.auxiliary_files import NetworkFile
from cxrsynth.domain import regions
from cxrsynth.domain.lexicon import is_normal
from cxrsynth.errors import CxrError
from cxrsynth.recipe.part import Part

Range = Annotated[tuple[float, float], Field(description="smallest and largest")]

# What people say -> the part of the scale it means.
SEVERITIES = {
    "minimal": (0.0, 0.1), "faint": (0.0, 0.25), "small": (0.0, 0.25), "mild": (0.0, 0.25), "moderate": (0.25, 0.5),
    "large": (0.5, 0.75), "marked": (0.5, 0.75), "severe": (0.75, 1.0), "massive": (0.75, 1.0),
}  # fmt: skip


def severity_range(value: Any) -> Any:
    """A severity as smallest and largest number in 0..1, from a word, a number, or two.

    Raises:
        ValueError: no such word, or numbers out of range or order.
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            if value.lower() not in SEVERITIES:
                raise ValueError(f"no severity '{value}': a number in 0..1, or {', '.join(SEVERITIES)}") from None
            return SEVERITIES[value.lower()]
    pair = (value, value) if isinstance(value, int | float) else value
    numbers = isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(one, int | float) for one in pair)
    if numbers and not 0 <= pair[0] <= pair[1] <= 1:
        raise ValueError("severity lies in 0..1, the smaller number first")
    return pair


Severity = Annotated[tuple[float, float], BeforeValidator(severity_range)]


class Finding(Part):
    """One finding that may be put into an image, or ``no abnormality``: what is in the region is taken away."""

    finding: str = Field(min_length=1, description="as the prompt names it")
    region: str | regions.Box | tuple[str, ...] = Field(
        description="where it may be: words ('left lower zone'), a list of such words of which each image gets one, "
        "[left, top, right, bottom] in 0..1, or a PNG of the image's size"
    )
    probability: float = Field(1.0, ge=0, le=1)
    severity: Severity = Field(
        (0.25, 0.75),
        description="0 the least to 1 the most there is, drawn for each image: a number, two, or one of "
        "mild, moderate, large, severe",
    )
    method: Literal["auto", "simulate", "inpaint"] = Field(
        "auto",
        description="simulate: the simulator puts the finding into the region, the model generates it anew; "
        "inpaint: the model makes it from words alone; auto: simulate what the simulator knows",
    )
    shape: Literal["blob", "whole"] = Field(
        "blob", description="of what is inpainted: a ragged patch in the region, or all of it"
    )
    label: str | None = Field(None, description="class that the finding is; default: the one named so")

    @field_validator("region")
    @classmethod
    def _understood(cls, region: str | regions.Box | tuple[str, ...]) -> str | regions.Box | tuple[str, ...]:
        several = (region,) if isinstance(region, str) else region
        if not several:
            raise ValueError("name at least one region")
        if len(several) > 1 and any(isinstance(one, str) and one.lower().endswith(".png") for one in several):
            raise ValueError("a list of regions holds words; a file is a region by itself")
        for words in several:
            if isinstance(words, str) and not words.lower().endswith(".png"):
                try:
                    regions.parse(words)
                except CxrError as error:
                    raise ValueError(f"{error.message}; {error.hint}") from error
        return region

    @property
    def places(self) -> list[str | regions.Box]:
        """The regions of which each image gets one."""
        if isinstance(self.region, str):
            return [self.region]
        words = [one for one in self.region if isinstance(one, str)]
        return [*words] if words else [self.region]  # type: ignore[list-item]

    def class_among(self, words: Mapping[str, Sequence[str]]) -> str:
        """The class that this finding fills.

        Args:
            words: class -> the words that mean it.

        Raises:
            ValueError: there is none; the message lists what there is.
        """
        if is_normal(self.finding) and self.label is None:
            return ""  # what is taken away is no class
        text = self.finding.lower()
        meant = (name for name, own in words.items() if any(word.lower() in text for word in own))
        found = self.label or next(meant, None)
        if found is None or found not in words:
            what = f"there is no class '{self.label}'" if self.label else f"'{self.finding}' has no class"
            raise ValueError(
                f"control.pathology: {what}; add one with overlap: true, or give label: one of {', '.join(words)}"
            )
        return found


class Inpaint(Part):
    """The pathology controller: how a region is generated anew."""

    prompt: str = Field("Frontal chest X-ray. Findings: {finding}.", description="{finding} and {region} are filled in")
    negative_prompt: str = Field("", description="what guidance leads away from")
    guidance_scale: float = Field(7.0, ge=0, description="XReal: 7")
    adapter: Annotated[str | None, NetworkFile("adapter")] = Field(
        None, description="file of 'cxrsynth train-pathology' for this model, or mini for the bundled one; null: none"
    )
    feather: float = Field(0.02, ge=0, le=0.1, description="width of the border around a region, of the width")
    strength: float = Field(
        0.35, ge=0, le=1, description="part of the steps in which the model changes a simulated finding; 0 leaves it"
    )
    removal: float = Field(0.8, ge=0, le=1, description="part of the steps in which it takes a finding away")

    @field_validator("prompt")
    @classmethod
    def _fillable(cls, prompt: str) -> str:
        try:
            prompt.format(finding="", region="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError("only {finding} and {region} are filled in") from error
        return prompt

    def words(self, finding: str, region: str | regions.Box) -> str:
        """The prompt of one finding; a box has no words."""
        place = region if isinstance(region, str) and not region.lower().endswith(".png") else "lung"
        return self.prompt.format(finding=finding, region=place)
