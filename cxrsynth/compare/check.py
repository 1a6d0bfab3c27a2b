"""All that can be wrong with the datasets of a comparison, found before the first hour of training."""

from __future__ import annotations

from cxrsynth.compare.grid import identity
from cxrsynth.compare.recipe import CompareRecipe
from cxrsynth.data.labelled import Source, choose_classes, gather, may_train
from cxrsynth.data.patients import check_patients, subset
from cxrsynth.store import Store


def check(recipe: CompareRecipe) -> None:
    """Open every dataset, every mask and every split that the comparison will need.

    Raises:
        UsageError: classes that do not match, an empty split, fewer images than asked for.
        MismatchError: an unfinished dataset, a mask that does not fit its image, a patient in training and test.
    """
    classes = choose_classes([recipe.real, recipe.synthetic], recipe.train.classes)
    for root in (recipe.real, recipe.synthetic, *(test.data for test in recipe.tests)):
        identity(root)
    allowed = may_train(recipe.train.benchmark)
    real = gather(Source(recipe.real), "train", classes, allowed)
    subset(real, max(*recipe.real_patients, *recipe.mixed_patients, *recipe.fine_tuned_patients, 0))
    generated = gather(Source(recipe.synthetic), "train", classes, allowed)
    subset(generated, max(recipe.synthetic_images))
    check_patients([*real, *generated], gather(Source(recipe.real), "val", classes, allowed))
    for test in recipe.tests:
        known = Store(test.data).classes()
        # A test set may lack a class (only lungs, say): it measures the others.
        wanted = [name for name in classes if name in known]
        keep = None if not test.sources else (lambda row, names=test.sources: row.get("source") in names)
        check_patients([*real, *generated], gather(Source(test.data), test.split, wanted, keep), test.label)
