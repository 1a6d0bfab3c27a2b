"""The recipe of a comparison of classifiers: the arms of a segmentation comparison, another network, other figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from cxrsynth.compare.recipe import Arms, CompareRecipe, Others, read_recipe
from cxrsynth.train.tasks.classify.config import ClassifyConfig


class ClassifyRecipe(CompareRecipe):
    """The downstream utility of synthetic images for a classifier; its labels are named, the same for every arm."""

    arms: tuple[Arms, ...] = ("real", "synthetic", "mixed", "fine_tuned")
    real_patients: tuple[int, ...] = Field((0,), min_length=1, description="N of R(N); 0 is all of them")
    train: ClassifyConfig  # type: ignore[assignment]

    def settings(self, seed: int, updates: int) -> ClassifyConfig:  # type: ignore[override]
        """The training of one run, as for segmentation."""
        return super().settings(seed, updates)  # type: ignore[return-value]

    @field_validator("arms")
    @classmethod
    def _no_teacher(cls, arms: tuple[str, ...]) -> tuple[str, ...]:
        if {"teacher", "pseudo"} & set(arms):
            raise ValueError("arms teacher and pseudo label images with masks, which a classifier has not")
        return arms

    @field_validator("also")
    @classmethod
    def _no_hardness(cls, also: Others) -> Others:
        if any(one.hardness for one in also.values()):
            raise ValueError("hardness is of segmenters: images for classifiers have no such score")
        return also

    @field_validator("train")
    @classmethod
    def _named_labels(cls, train: ClassifyConfig) -> ClassifyConfig:
        if not train.labels:
            raise ValueError("name the labels, for example labels: [pneumonia, effusion]")
        return train


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> ClassifyRecipe:
    """A comparison of classifiers from a YAML file or the name of a bundled recipe (``compare/findings``).

    Args:
        overrides: dotted name (``train.updates``) -> value.

    Raises:
        RecipeError: no such file, or a wrong key or value; the message names it.
    """
    return read_recipe(ClassifyRecipe, path, overrides or {})
