"""A class of the label map: its name, its id, and the words whose attention locates it."""

from __future__ import annotations

from pydantic import Field, model_validator

from cxrsynth.recipe.part import Part


class ClassSpec(Part):
    """One class of the label map."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="snake_case name, used in scores and file headers")
    id: int = Field(ge=1, le=254, description="pixel value in the masks; 0 is background, 255 is ignore")
    phrase: str = Field(min_length=1, description="the words whose attention locates the class")
    optional: bool = Field(False, description="present only in samples whose prompt contains one of `when`")
    when: tuple[str, ...] = Field((), description="words that ask for an optional class; default: the phrase")
    overlap: bool = Field(
        False,
        description="lies inside other classes (an opacity in a lung), does not compete with them, and is read from a "
        "text of its own: its map is its share beside 'no finding'",
    )
    gate: float | None = Field(
        None, gt=0, lt=1, description="of an overlapping class: absent where the peak of its map, 0..1, stays below"
    )
    level: float | None = Field(
        None, gt=0, lt=1, description="of an overlapping class: its map from here on is its mask; default: half-way up"
    )

    @model_validator(mode="after")
    def _calibrated(self) -> ClassSpec:
        if not self.overlap and (self.gate is not None or self.level is not None):
            raise ValueError(f"'{self.name}': gate and level are of classes with overlap: true")
        return self


def unique(classes: list[ClassSpec]) -> list[ClassSpec]:
    """The classes, if no two of them share a name, an id or a phrase.

    Raises:
        ValueError: naming what is shared.
    """
    for what in ("name", "id", "phrase"):
        values = [getattr(item, what) for item in classes]
        twice = {value for value in values if values.count(value) > 1}
        if twice:
            raise ValueError(f"two classes share the {what} {twice.pop()!r}")
    return classes
