"""Settings that several trainings share."""

from __future__ import annotations

from pydantic import Field

from cxrsynth.recipe.part import Part


class GroundingConfig(Part):
    """Loss that makes phrases look where their masks are (TokenCompose, CVPR 2024, eq. 3 and 4).

    The anatomy is read from one text, each finding from a text of its own, beside "no finding": a finding lies over the
    anatomy and shall not take its attention.
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
    def groups(self) -> list[tuple[dict[str, str], bool]]:
        """Classes and phrases that share a text, and whether it is a finding's own text."""
        anatomy = [(self.phrases, False)] if self.phrases else []
        return [*anatomy, *(({name: phrase}, True) for name, phrase in self.findings.items())]
