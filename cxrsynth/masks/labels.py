"""A draw becomes a labelled sample: maps -> probabilities -> refiners -> ids and layers."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cxrsynth.errors import UsageError
from cxrsynth.masks import chain
from cxrsynth.masks.attention import Evidence, Joint
from cxrsynth.masks.layers import IGNORE, certainty, layers, paint
from cxrsynth.recipe import Recipe
from cxrsynth.records import Draw, Refiner, Sample


class Labelling(BaseModel):
    """All that is needed to label a draw; small, so that it travels to pool workers with every task.

    Attributes:
        classes: class name -> id (1..255), in the order of K and of painting.
        overlap: classes that lie over others (an opacity in a lung) and do not compete with them.
        use: ``attention`` labels from the maps; ``control`` from the masks that were imposed on the picture, exactly.
        normalise: entry of the normaliser that makes probabilities of maps.
        ignore: pixels whose likeliest label is less likely than this become 255; not in control masks.
        refine: entries of the refiner chain, ``{"use": name, field: value, ...}`` each; not applied to control masks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: dict[str, int] = Field(min_length=1)
    overlap: tuple[str, ...] = ()
    use: Literal["attention", "control"]
    normalise: dict[str, Any]
    ignore: float = 0.0
    refine: tuple[dict[str, Any], ...]

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Labelling:
        """What a recipe says about labels.

        Raises:
            RecipeError: unknown normaliser, refiner or field; now, not in a worker.
        """
        return cls(
            classes=recipe.class_ids(),
            overlap=tuple(item.name for item in recipe.classes if item.overlap),
            use=recipe.masks.use,
            normalise=recipe.masks.normalise,
            ignore=recipe.masks.ignore,
            refine=tuple(recipe.masks.refine),
        )

    @model_validator(mode="after")
    def _check(self) -> Labelling:
        self.normaliser()
        self.refiners()
        return self

    def normaliser(self) -> Joint:
        """The object that makes probabilities of maps."""
        built: Joint = chain.construct("normalisers", self.normalise)
        return built

    def refiners(self) -> list[Refiner]:
        """The refiner chain, built."""
        return chain.build(self.refine, list(self.classes), self.overlap)

    @property
    def competing(self) -> np.ndarray:
        """(K,) bool, false for classes that lie over others."""
        return np.array([name not in self.overlap for name in self.classes], bool)


def make_sample(draw: Draw, labelling: Labelling, required: tuple[str, ...] = ()) -> Sample:
    """Label one draw. A pure function of its arguments, at the top of a module so that pool workers can run it.

    Scores: ``presence.<class>`` (0..1), ``stability.<class>`` (0..1, before refinement), ``area.<class>`` (fraction of
    the picture, after it).

    Args:
        draw: picture and maps, K in the order of ``labelling.classes``.
        required: classes that curation shall miss if they are not there.

    Raises:
        UsageError: the number of maps is not the number of classes, or control masks are asked for and there are none.
    """
    competing = labelling.competing
    if labelling.use == "control":
        own = _imposed(draw, labelling)
        evidence = _certain(own, competing)
        prob = evidence.prob
    else:
        _expect(draw.maps, labelling.classes)
        height, width = draw.image.shape
        evidence = labelling.normaliser()(draw.maps, height, width, competing)
        prob = chain.refine(draw.image, evidence.prob, labelling.refiners())
        own = layers(prob, competing)
    mask = paint(prob, competing, list(labelling.classes.values()))
    if labelling.ignore and labelling.use == "attention":
        mask[certainty(prob, competing) < labelling.ignore] = IGNORE
    scores: dict[str, float] = {}
    for k, name in enumerate(labelling.classes):
        scores[f"presence.{name}"] = round(float(evidence.presence[k]), 4)
        scores[f"stability.{name}"] = round(float(evidence.stability[k]), 4)
        scores[f"area.{name}"] = round(float(own[k].mean()), 5)
    return Sample(
        image=draw.image,
        mask=mask,
        prob=prob,
        layers=own,
        classes=dict(labelling.classes),
        scores=scores,
        finite=draw.finite,
        required=required,
    )


def _imposed(draw: Draw, labelling: Labelling) -> np.ndarray:
    if draw.control is None:
        raise UsageError("the labels shall be the imposed masks, but none were imposed", "set masks.use: attention")
    _expect(draw.control, labelling.classes)
    return draw.control


def _certain(control: np.ndarray, competing: np.ndarray) -> Evidence:
    """Masks as certain probabilities; where competing ones overlap, the later in recipe order wins."""
    prob = control.astype(np.float32)
    order = np.flatnonzero(competing)
    for position, k in enumerate(order):
        prob[order[:position]] *= 1.0 - prob[k]
    there = np.array([float(mask.any()) for mask in control])
    return Evidence(prob, there, there)


def _expect(planes: np.ndarray, classes: dict[str, int]) -> None:
    if len(planes) != len(classes):
        raise UsageError(
            f"{len(planes)} maps for {len(classes)} classes", "label with the classes the picture was drawn with"
        )
