"""Test sets named on the command line, ``NAME=FOLDER``: a dataset, or a plain folder of a hospital's images and masks.

A plain folder is arranged as `cxrsynth.ingest.folder` says: ``images/``, ``masks/`` of the same names,
``classes.json``, ``metadata.csv``. It is brought into the on-disk form once, below the folder of the comparison, under
a name that holds the digest of its files: a corrected mask makes another test set, so no earlier figure is taken for
one of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cxrsynth.compare.classify_recipe import ClassifyRecipe
from cxrsynth.compare.recipe import AnyRecipe, CompareRecipe, TestSet
from cxrsynth.data.labelled import ALL, Source
from cxrsynth.data.multilabel import gather_multilabel
from cxrsynth.data.paths import refuse_overlap, shown, trouble
from cxrsynth.encoding import dumps, file_sha256, sha256
from cxrsynth.errors import UsageError
from cxrsynth.ingest.convert import Summary, ingest
from cxrsynth.ingest.folder import SUFFIXES, Folder
from cxrsynth.ingest.radiograph import was_turned
from cxrsynth.ingest.scan import scan

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
SIZE = 256  # side of the square images, as `cxrsynth ingest` makes them; more where the network sees more
NAMED = 3  # reasons that an error tells


def add_tests(recipe: AnyRecipe, out: Path, named: Sequence[str]) -> tuple[AnyRecipe, list[str]]:
    """A comparison that also measures on these folders; nothing is trained or validated on them.

    Args:
        out: folder of the comparison.
        named: ``NAME=FOLDER`` each.

    Returns:
        The recipe, and what is to be told of each folder.

    Raises:
        UsageError: no such folder, a name twice, or nothing in it that can be measured on.
        MismatchError: its place below ``out`` holds something else.
    """
    taken = [test.label for test in recipe.tests]
    folders: dict[str, Path] = {}
    for text in named:
        name, folder = parse(text)
        if name in taken or name in folders:
            raise UsageError(
                f"two tests are called {name}", f"taken: {', '.join([*taken, *folders])}; --test OTHER={folder}"
            )
        refuse_overlap(folder, out)
        folders[name] = folder
    tests, told = [], []
    for name, folder in folders.items():
        data = folder
        if not is_dataset(folder):
            data, about = bring_in(name, folder, out, recipe)
            told.append(about)
        tests.append(TestSet(data=data, split=ALL, name=name))
    return recipe.model_copy(update={"tests": (*recipe.tests, *tests)}), told


def parse(text: str) -> tuple[str, Path]:
    """``NAME=FOLDER`` -> both.

    Raises:
        UsageError: no such form, or no such folder.
    """
    name, sign, path = text.partition("=")
    if not sign or not path or not NAME.fullmatch(name):
        raise UsageError(f"'{text}' is not NAME=FOLDER", "for example --test mine=hospital")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UsageError(f"test {name}: {folder} {what}", "name a folder with images/ and masks/, or a dataset")
    return name, folder


def is_dataset(folder: Path) -> bool:
    """Whether a folder has the on-disk form already."""
    return (folder / "classes.json").is_file() and (folder / "shards").is_dir()


def bring_in(name: str, folder: Path, out: Path, recipe: CompareRecipe) -> tuple[Path, str]:
    """A plain folder as a dataset, and what is to be told of it.

    Raises:
        UsageError: it has no images, no mask that can be used, or says nothing about the labels.
    """
    try:
        layout = Folder(folder)
    except UsageError as error:
        hint = f"cxrsynth ingest --help; then --test {name}=DATASET"
        raise UsageError(f"test {name}: {error.message}", f"{error.hint}; or {hint}") from error
    digest = digest_of(layout)
    layout.options["files"] = digest  # part of what the dataset is
    made = out / "tests" / f"{name}-{digest[:8]}"
    result = ingest(layout, made, max(SIZE, recipe.train.size))
    if isinstance(recipe, ClassifyRecipe):
        check_labels(name, folder, made, recipe)
        head = f"test {name}: {result.kept} of {result.planned} images can be read"
    else:
        check_masks(name, folder, result)
        head = f"test {name}: {result.masks} of {result.planned} images have masks"
    turned = sum(was_turned([row["reason"]]) for row in result.notes)
    more = [f"{turned} were not upright and have been turned"] if turned else []
    return made, "; ".join([head, *more, *result.remarks, f"see {made / 'summary.json'}"])


def digest_of(layout: Folder) -> str:
    """sha256 of all files that are read of a plain folder, and of their names."""
    files = [layout.place / path for path in layout.found.images]
    if layout.masks.is_dir():
        files += [layout.masks / path for path in scan(layout.masks, SUFFIXES).images]
    files += [path for path in (layout.root / "classes.json", layout.root / "metadata.csv") if path.exists()]
    told = [[shown(path.relative_to(layout.root)), trouble(path) or file_sha256(path)] for path in files]
    return sha256(dumps(told))


def check_masks(name: str, folder: Path, result: Summary) -> None:
    """Refuse a folder without a mask that can be used, with the reasons."""
    if result.masks:
        return
    reasons = [row["reason"] for row in result.notes if row["reason"].startswith("mask ")]
    reasons += [row["reason"] for row in result.refused]
    reasons += [remark for remark in result.remarks if "masks/" in remark]
    listed = "; ".join(list(dict.fromkeys(reasons))[:NAMED])
    if not (folder / "masks").is_dir():
        listed = f"{folder / 'masks'} does not exist"
    raise UsageError(
        f"test {name}: none of the {result.planned} images of {folder} has a mask that can be used: {listed}",
        "masks/a.png holds class ids for images/a.png; classes.json says which id is which class",
    )


def check_labels(name: str, folder: Path, made: Path, recipe: ClassifyRecipe) -> None:
    """Refuse a folder whose table says nothing about the labels."""
    labels = recipe.train.labels
    try:
        gather_multilabel(Source(made), ALL, labels, recipe.train.negatives)
    except UsageError as error:
        raise UsageError(
            f"test {name}: {folder} says nothing about {', '.join(labels)}",
            f"write {folder / 'metadata.csv'} with the columns file and findings: a.png,effusion and b.png,no finding",
        ) from error
