"""All that can be wrong with the datasets of a comparison, found before the first hour of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cxrsynth.compare.grid import identity, plan
from cxrsynth.compare.recipe import CompareRecipe, TestSet
from cxrsynth.data.dataset import rows
from cxrsynth.data.labelled import LabelledImage, Source, choose_classes, gather, may_train
from cxrsynth.data.paths import refuse_overlap
from cxrsynth.data.patients import DatasetImage, check_patients, refuse_copies, subset
from cxrsynth.errors import UsageError
from cxrsynth.store import Store

# (dataset, split, the test it is read for) -> its images with their labels
Read = Callable[[Path, str, TestSet | None], Sequence[DatasetImage]]


def check(recipe: CompareRecipe, read: Read) -> None:
    """Open every dataset, every label and every split that the comparison will need.

    Raises:
        UsageError: an empty split, or fewer images than asked for.
        MismatchError: an unfinished dataset, labels that do not fit, a patient or an image in training and test.
    """
    for root in recipe.datasets():
        identity(root)
    runs = plan(recipe)
    trained: list[DatasetImage] = []
    used: list[tuple[Path | None, list[int]]] = [
        (recipe.real, [run.real for run in runs if run.real is not None]),
        (recipe.generated, [run.synthetic for run in runs if run.synthetic is not None and not run.dataset]),
        *((root, [0]) for root in recipe.others.values()),
    ]
    for place, wanted in used:
        if place is not None and wanted:
            images = list(read(place, "train", None))
            subset(images, max(wanted))
            trained += images
    if recipe.unlabelled is not None and any(run.pseudo for run in runs):
        store = Store(recipe.unlabelled)
        trained += [DatasetImage(store, row) for row in rows(recipe.unlabelled, ("train",))]
    held_out = list(read(recipe.real, "val", None))
    check_patients(trained, held_out)
    for test in recipe.tests:
        measured = read(test.data, test.split, test)
        check_patients(trained, measured, test.label)
        check_patients(held_out, measured, test.label, "val")
        refuse_copies([*trained, *held_out], measured, test.label)


def masks(recipe: CompareRecipe) -> Read:
    """Images with their masks, as a segmentation network is trained and measured on them.

    Raises:
        UsageError: the classes of real and synthetic images do not match.
    """
    roots = [root for root in (recipe.real, recipe.generated, *recipe.others.values()) if root]
    classes = choose_classes(roots, recipe.train.classes)
    allowed = may_train(recipe.train.benchmark)

    def read(root: Path, split: str, test: TestSet | None) -> list[LabelledImage]:
        if test is None:
            return gather(Source(root), split, classes, allowed)
        known = Store(root).classes()
        # A test set may lack a class (only lungs, say): it measures the others.
        some = [name for name in classes if name in known]
        if not some:
            raise UsageError(
                f"test {test.label}: {root} labels {', '.join(known)}, the comparison {', '.join(classes)}",
                "give a class the same name in both classes.json, or leave the test out",
            )
        keep = None if not test.sources else (lambda row, names=test.sources: row.get("source") in names)
        return gather(Source(root), split, some, keep)

    return read


def keep_apart(recipe: CompareRecipe, out: Path) -> None:
    """Refuse a comparison that would write into one of its datasets.

    Raises:
        UsageError: naming it.
    """
    for root in recipe.datasets():
        refuse_overlap(root, out)
