"""How images and captions are varied before a network sees them; every default is here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from cxrsynth.recipe.part import Part


class CaptionConfig(Part):
    """How much captions are varied, so that every word comes to mean something on its own."""

    verbatim: float = Field(0.3, ge=0, le=1, description="share of captions left as they are in the dataset")
    drop: float = Field(0.2, ge=0, le=1, description="chance of each part to be left out otherwise")
    list_style: float = Field(0.35, ge=0, le=1, description="share of the others that are lists of words, no sentences")
    anatomy: float = Field(0.4, ge=0, le=1, description="chance that the anatomy phrases are named")


class AugmentConfig(Part):
    """Geometry and tone of the encoded variants. Never flipped: right and left would lose their meaning."""

    variants: dict[str, int] = Field(
        default_factory=dict, description="source -> variants per image; default_variants otherwise"
    )
    default_variants: int = Field(1, ge=1)
    images: dict[str, int] = Field(default_factory=dict, description="source -> at most so many images; all otherwise")
    shift: float = Field(0.04, ge=0, lt=0.5, description="of the side")
    scale: float = Field(0.06, ge=0, lt=0.5)
    rotate: float = Field(4.0, ge=0, lt=45, description="degrees")
    gamma: float = Field(0.15, ge=0, lt=1)


class ImageConfig(Part):
    """Which images, and how they become square."""

    fit: Literal["pad", "squash"] = Field(
        "pad", description="pad: the image's own aspect ratio with black beside it; squash: as ingested"
    )
    size: int | None = Field(None, ge=32, description="pixels; by default what the base was made for")
    shares: dict[str, float] = Field(default_factory=dict, description="source -> share of the draws; others get none")
    only: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="column -> words; images of which the column has one of them: {findings: [pneumonia, normal]}",
    )
    weight: str | None = Field(None, description="column with the weight of each image: how often it is drawn")
    broken: Literal["refuse", "skip"] = Field(
        "refuse", description="images without a caption, captions without an image, files that cannot be read"
    )


class WordConfig(Part):
    """What the model reads to an image."""

    style: Literal["report", "varied"] = Field(
        "report", description="report: the words as they are; varied: the caption in many ways (see `captions`)"
    )
    column: str = Field("prompt", description="column with the report; `text` holds original words where there are any")
    sections: tuple[str, ...] = Field(
        ("impression", "findings"), description="parts of a report to keep, in this order; all of one without headings"
    )
    person: bool = Field(False, description="put `50-year-old woman.` in front, where the columns age and sex know it")
    tokens: int | None = Field(None, ge=8, description="length of a prompt; by default all the encoder reads")
    long: Literal["cut", "refuse"] = Field(
        "cut", description="words beyond the encoder's tokens (77 in CLIP) are cut at the end and counted, or refused"
    )
    dropout: float = Field(0.1, ge=0, le=1, description="share of empty prompts, for classifier-free guidance")


class SegmentAugment(Part):
    """Geometry and tone of the training images. ``flip`` is 0: a mirrored chest has its heart on the wrong side."""

    style: Literal["plain", "nnunet"] = Field(
        "plain", description="plain: what is set below; nnunet: the changes, chances and strengths of nnU-Net v2"
    )
    p: float = Field(0.8, ge=0, le=1, description="share of images whose geometry is changed")
    tone_p: float = Field(0.5, ge=0, le=1, description="share that each change of tone meets")
    shift: float = Field(0.06, ge=0, lt=0.5, description="of the side")
    scale: float = Field(0.12, ge=0, lt=0.9)
    rotate: float = Field(8.0, ge=0, le=180, description="degrees")
    gamma: float = Field(0.25, ge=0, lt=1)
    contrast: float = Field(0.15, ge=0, lt=1, description="brightness changes by half of it")
    noise: float = Field(0.03, ge=0, lt=1, description="largest deviation, of full scale")
    flip: float = Field(0.0, ge=0, le=1, description="chance of a left-right flip; wrong wherever sides have names")
    elastic: float = Field(0.0, ge=0, le=1, description="chance of an elastic deformation; nnU-Net has none either")

    @model_validator(mode="after")
    def _numbers_of_its_own(self) -> SegmentAugment:
        fields = type(self).model_fields.items()
        changed = [name for name, field in fields if name not in IN_BOTH and getattr(self, name) != field.default]
        if self.style == "nnunet" and changed:
            raise ValueError(f"style nnunet has numbers of its own: leave out {', '.join(changed)}")
        return self


IN_BOTH = {"style", "flip", "elastic"}  # of `SegmentAugment`, whatever its style
