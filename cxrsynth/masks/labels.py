"""A draw becomes a labelled sample: maps -> probabilities -> refiners -> ids and layers."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cxrsynth.domain.overlap import dice
from cxrsynth.errors import UsageError
from cxrsynth.masks import chain
from cxrsynth.masks.attention import Calibrated, Evidence, Joint
from cxrsynth.masks.layers import apart, certainty, layers, paint, uncertainty
from cxrsynth.recipe import Recipe
from cxrsynth.records import IGNORE, Draw, Refiner, Sample


class Labelling(BaseModel):
    """All that is needed to label a draw; small, so that it travels to pool workers with every task.

    Attributes:
        classes: class name -> id (1..255), in the order of K and of painting.
        overlap: classes that lie over others (an opacity in a lung) and do not compete with them.
        gates, levels: overlapping class -> value of its map, as `cxrsynth.masks.attention.Calibrated` has them.
        use: ``attention`` labels from the maps; ``control`` from the masks that were imposed on the image,
            exactly, and from the maps where none was; ``fused`` from the maps weighed with the imposed masks.
        fuse: weight of the imposed masks in ``fused``.
        imposed: names of the classes that were imposed; None: all.
        agreement: whether imposed masks are compared with those of the maps (scores ``agreement.<class>``).
        normalise: entry of the normaliser that makes probabilities of maps.
        ignore: pixels whose likeliest label is less likely than this become 255; not in control masks.
        refine: entries of the refiner chain, ``{"use": name, field: value, ...}`` each; not applied to control masks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: dict[str, int] = Field(min_length=1)
    overlap: tuple[str, ...] = ()
    gates: dict[str, float] = Field(default_factory=dict)
    levels: dict[str, float] = Field(default_factory=dict)
    use: Literal["attention", "control", "fused"]
    fuse: float = 0.5
    imposed: tuple[str, ...] | None = None
    agreement: bool = False
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
            overlap=recipe.overlapping,
            gates={item.name: item.gate for item in recipe.classes if item.gate is not None},
            levels={item.name: item.level for item in recipe.classes if item.level is not None},
            use=recipe.masks.use,
            fuse=recipe.masks.fuse,
            imposed=recipe.imposed(),
            agreement=recipe.control is not None and recipe.reads_attention(),
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

    @property
    def calibrated(self) -> Calibrated:
        """The values of the maps that mean something by themselves."""
        return Calibrated(*(
            np.array([found.get(name, np.nan) for name in self.classes]) for found in (self.gates, self.levels)
        ))  # fmt: skip

    @property
    def given(self) -> np.ndarray:
        """(K,) bool, true for classes whose masks were imposed."""
        return np.array([self.imposed is None or name in self.imposed for name in self.classes], bool)

    @property
    def exact(self) -> bool:
        """Whether every class was imposed."""
        return bool(self.given.all())


def make_sample(draw: Draw, labelling: Labelling, required: tuple[str, ...] = ()) -> Sample:
    """Label one draw. A pure function of its arguments, at the top of a module so that pool workers can run it.

    Scores: ``presence.<class>`` (0..1), ``stability.<class>`` (0..1, before refinement), ``area.<class>`` (fraction of
    the image, after it), ``agreement.<class>`` (Dice of imposed mask and attention mask),
    ``uncertainty.<class>`` (0..1, of the final probabilities, see `layers.uncertainty`).

    Args:
        draw: image and maps, K in the order of ``labelling.classes``.
        required: classes that curation shall miss if they are not there.

    Raises:
        UsageError: the number of maps is not the number of classes, or control masks are asked for and there are none.
    """
    competing = labelling.competing
    scores: dict[str, float] = {}
    if labelling.use == "control" and labelling.exact:
        own = _imposed(draw, labelling)
        evidence = _certain(own, competing)
        prob = evidence.prob
        if labelling.agreement:
            scores = agreement(draw, labelling, _seen(draw, labelling).prob)
    else:
        evidence = _seen(draw, labelling)
        if labelling.agreement:
            scores = agreement(draw, labelling, evidence.prob)
        start = fused(evidence.prob, draw, labelling) if labelling.use == "fused" else evidence.prob
        prob = chain.refine(draw.image, start, labelling.refiners(), draw.reads)
        if labelling.use == "control":
            prob = laid_over(prob, draw, labelling)
        own = layers(prob, competing)
        if not competing.all() and competing.any():  # layers are stored: no heart within a lung
            own = apart(own, prob, competing)
    mask = paint(prob, competing, list(labelling.classes.values()))
    if labelling.ignore and labelling.use != "control":
        mask[certainty(prob, competing) < labelling.ignore] = IGNORE
    for k, name in enumerate(labelling.classes):
        scores[f"presence.{name}"] = round(float(evidence.presence[k]), 4)
        scores[f"stability.{name}"] = round(float(evidence.stability[k]), 4)
        scores[f"area.{name}"] = round(float(own[k].mean()), 5)
        scores[f"uncertainty.{name}"] = round(uncertainty(prob[k], own[k]), 4)
    return Sample(
        image=draw.image,
        mask=mask,
        prob=prob,
        layers=own,
        classes=dict(labelling.classes),
        scores=scores,
        finite=draw.finite,
        required=required,
        refused=draw.refused,
    )


def agreement(draw: Draw, labelling: Labelling, prob: np.ndarray) -> dict[str, float]:
    """How well two independent sources agree: Dice of each imposed mask and what attention says, before refinement.

    A class that neither of the two shows is left out.
    """
    imposed, seen = _imposed(draw, labelling), layers(prob, labelling.competing)
    found = {}
    for k, name in enumerate(labelling.classes):
        value = float(dice(imposed[k], seen[k]))
        if labelling.given[k] and not np.isnan(value):
            found[f"agreement.{name}"] = round(value, 4)
    return found


def fused(prob: np.ndarray, draw: Draw, labelling: Labelling) -> np.ndarray:
    """Attention and imposed masks, weighed: (K, H, W) float32; classes that nobody imposed stay as they are."""
    imposed, given, competing = _imposed(draw, labelling), labelling.given, labelling.competing
    certain = _certain(imposed, competing & given).prob
    mixed = (1 - labelling.fuse) * prob + labelling.fuse * certain
    taken = labelling.fuse * imposed[given & competing].any(axis=0)
    rest = np.where((competing & ~given)[:, None, None], prob * (1 - taken), prob)
    return np.where(given[:, None, None], mixed, rest).astype(np.float32)


def laid_over(prob: np.ndarray, draw: Draw, labelling: Labelling) -> np.ndarray:
    """Imposed masks for the classes that have them, (K, H, W) float32; other competing classes keep the rest."""
    imposed, given, competing = _imposed(draw, labelling), labelling.given, labelling.competing
    certain = _certain(imposed, competing & given).prob
    taken = imposed[given & competing].any(axis=0)
    rest = np.where((competing & ~given)[:, None, None], prob * ~taken, prob)
    return np.where(given[:, None, None], certain, rest).astype(np.float32)


def _seen(draw: Draw, labelling: Labelling) -> Evidence:
    """What the maps say."""
    _expect(draw.maps, labelling.classes)
    height, width = draw.image.shape
    return labelling.normaliser()(draw.maps, height, width, labelling.competing, labelling.calibrated)


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
            f"{len(planes)} maps for {len(classes)} classes", "label with the classes the image was generated with"
        )
