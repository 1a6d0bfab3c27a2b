"""The recipe of a comparison: which datasets, which arms, how often."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from cxrsynth.errors import RecipeError
from cxrsynth.recipe.part import Part
from cxrsynth.recipe.settings import load_as
from cxrsynth.train.tasks.segment.config import SegmentConfig

Arms = Literal["real", "synthetic", "mixed", "fine_tuned", "teacher", "pseudo"]
# Every other arm needs synthetic images.
REAL_ONLY = {"real", "pseudo"}


class TestSet(Part):
    """Real images with reference masks that nothing was tuned on."""

    __test__ = False  # not a test, whatever pytest makes of the name

    data: Path
    split: str = Field("test", description="'all' for an external test set")
    sources: tuple[str, ...] = Field((), description="only images of these sources; all by default")
    name: str = Field("", description="in tables; folder:split by default")

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.name or f"{self.data.name}:{self.split}"


class OtherImages(Part):
    """A synthetic dataset beside the first: the same images pruned or labelled anew, or images made in another way."""

    data: Path
    hardness: float = Field(0.0, ge=0, le=1, description="of the trainings on it; see the configuration of train-seg")
    patients: tuple[int, ...] | None = Field(None, description="N of R(N)+S with it; by default as with the first")
    made_with: int | None = Field(
        None, ge=0, description="patients whose masks everything that made it has seen: where the curve shows it"
    )


def _from_path(value: Any) -> Any:
    """A folder alone stands for the dataset in it."""
    return {"data": value} if isinstance(value, str | Path) else value


# It stands in the names of arms.
OtherName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
Others = dict[OtherName, Annotated[OtherImages, BeforeValidator(_from_path)]]


class CompareRecipe(Part):
    """The downstream utility of synthetic images next to real ones. Folders are relative to the working directory."""

    name: str = Field("compare", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="default folder out/compare/NAME")
    real: Path = Field(description="dataset with reference masks, splits train and val")
    synthetic: Path | None = Field(None, description="dataset that `cxrsynth generate` wrote; not for arms: [real]")
    also: Others = Field(
        default_factory=dict,
        description="name -> another synthetic dataset; all its images get the arms of the first: {pruned: FOLDER}",
    )
    unlabelled: Path | None = Field(
        None, description="real images without masks, for arm pseudo: labelled by the network of the same N patients"
    )
    tests: tuple[TestSet, ...] = Field(min_length=1)
    arms: tuple[Arms, ...] = ("real", "synthetic", "mixed", "fine_tuned", "teacher")
    real_patients: tuple[int, ...] = Field((8, 32, 0), min_length=1, description="N of R(N); 0 is all of them")
    mixed_patients: tuple[int, ...] = Field((), description="N of R(N)+S; those of real_patients by default")
    fine_tuned_patients: tuple[int, ...] = Field((), description="N of S>R(N); those of real_patients by default")
    synthetic_images: tuple[int, ...] = Field((0,), min_length=1, description="M of S(M); 0 is all of them")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    until: Literal["fixed", "plateau"] = Field(
        "fixed",
        description="fixed: train.updates in every arm; plateau: at most so many, until validation stops improving",
    )
    train: SegmentConfig = SegmentConfig()

    @model_validator(mode="after")
    def _synthetic_where_used(self) -> CompareRecipe:
        wanted = set(self.arms) - REAL_ONLY
        if wanted and self.synthetic is None and (not self.also or "teacher" in wanted):
            raise ValueError("synthetic: name a dataset, or set arms: [real]")
        if self.unlabelled is None and "pseudo" in self.arms:
            raise ValueError("unlabelled: name a dataset of real images for arm pseudo")
        if {"teacher", "pseudo"} & set(self.also):
            raise ValueError("also: 'teacher' and 'pseudo' are names of arms; call the dataset otherwise")
        if getattr(self.train, "hardness", 0):
            raise ValueError("train.hardness: real images have no scores; give it to a dataset of also:")
        if self.until == "plateau" and not self.train.patience:
            raise ValueError("until: plateau needs train.patience, the validations without gain that end a training")
        return self

    @property
    def generated(self) -> Path | None:
        """The synthetic images, where an arm uses them."""
        return self.synthetic if set(self.arms) - REAL_ONLY else None

    @property
    def others(self) -> dict[str, Path]:
        """The other synthetic datasets, where an arm uses them."""
        used = set(self.arms) - REAL_ONLY - {"teacher"}
        return {name: one.data for name, one in self.also.items()} if used else {}

    def datasets(self) -> list[Path]:
        """The folders that are read, each once."""
        roots = (self.real, self.generated, *self.others.values(), self.unlabelled, *(test.data for test in self.tests))
        return list(dict.fromkeys(root for root in roots if root is not None))

    def settings(self, seed: int, updates: int) -> SegmentConfig:
        """The training of one run.

        ``fixed``: every arm gets the same number of updates, and the last average is taken, so that no image decides
        when an arm is at its best. ``plateau``: a run ends after ``train.patience`` validations without gain, one every
        ``train.look_every`` updates, and its best average is taken. The real ``val`` images decide that, the same ones
        for every arm of a seed: so arms of synthetic images alone owe real masks their stopping time, though no update.
        Both halves of a fine-tuning end in this way, each after at most its half of the updates.
        """
        chosen: dict[str, Any] = {"seed": seed, "updates": updates}
        if self.until == "fixed":
            chosen |= {"look_every": updates, "patience": 0}
        return self.train.model_copy(update=chosen)


AnyRecipe = TypeVar("AnyRecipe", bound=CompareRecipe)


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> CompareRecipe:
    """A comparison from a YAML file or the name of a bundled recipe (``compare/lung``).

    Args:
        overrides: dotted name (``train.updates``) -> value.

    Raises:
        RecipeError: no such file, or a wrong key or value; the message names it.
    """
    return read_recipe(CompareRecipe, path, overrides or {})


def read_recipe(kind: type[AnyRecipe], path: Path, overrides: Mapping[str, Any]) -> AnyRecipe:
    """A recipe of this kind from a file or the name of a bundled one; errors as in `load`."""
    recipe = load_as(kind, path, dict(overrides))
    labels = [test.label for test in recipe.tests]
    if len(set(labels)) < len(labels):
        raise RecipeError(f"{path}: two tests are called {', '.join(labels)}", "give each a 'name'")
    return recipe
