"""All that can be wrong with the datasets of a comparison, found before the first hour of training."""

from __future__ import annotations

from pathlib import Path

from cxrsynth.compare.grid import identity, plan
from cxrsynth.compare.recipe import CompareRecipe
from cxrsynth.data.labelled import LabelledImage, Source, choose_classes, gather, may_train
from cxrsynth.data.paths import refuse_overlap
from cxrsynth.data.patients import check_patients, subset
from cxrsynth.store import Store


def check(recipe: CompareRecipe, out: Path) -> None:
    """Open every dataset, every mask and every split that the comparison will need.

    Raises:
        UsageError: classes that do not match, an empty split, fewer images than asked for, ``out`` lies in a dataset.
        MismatchError: an unfinished dataset, a mask that does not fit its image, a patient in training and test.
    """
    keep_apart(recipe, out)
    classes = choose_classes([root for root in (recipe.real, recipe.generated) if root], recipe.train.classes)
    for root in recipe.datasets():
        identity(root)
    allowed = may_train(recipe.train.benchmark)
    runs = plan(recipe)
    real: list[LabelledImage] = []
    generated: list[LabelledImage] = []
    if any(run.real is not None for run in runs):
        real = gather(Source(recipe.real), "train", classes, allowed)
        subset(real, max(run.real or 0 for run in runs))
    if recipe.generated is not None:
        generated = gather(Source(recipe.generated), "train", classes, allowed)
        subset(generated, max(run.synthetic or 0 for run in runs))
    check_patients([*real, *generated], gather(Source(recipe.real), "val", classes, allowed))
    for test in recipe.tests:
        known = Store(test.data).classes()
        # A test set may lack a class (only lungs, say): it measures the others.
        wanted = [name for name in classes if name in known]
        keep = None if not test.sources else (lambda row, names=test.sources: row.get("source") in names)
        check_patients([*real, *generated], gather(Source(test.data), test.split, wanted, keep), test.label)


def keep_apart(recipe: CompareRecipe, out: Path) -> None:
    """Refuse a comparison that would write into one of its datasets.

    Raises:
        UsageError: naming it.
    """
    for root in recipe.datasets():
        refuse_overlap(root, out)
