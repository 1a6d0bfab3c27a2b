"""Write a dataset in another tool's format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cxrsynth.api.dataset import Dataset

if TYPE_CHECKING:
    from cxrsynth.export import Exported


def export(
    dataset: str | Path | Dataset,
    format: str,
    to: str | Path,
    *,
    classes: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write a dataset in another tool's format; call it again to continue, or after the dataset has grown.

    Args:
        dataset: dataset folder.
        format: ``hf``, ``nnunet``, ``coco``, ``yolo``, ``webdataset``, ``monai``, or what a plug-in adds.
        to: folder to write; absent, empty, or an earlier export of the same dataset.
        classes: names of the classes to export; all by default.
        progress: told (images done, images in all).

    Returns:
        The folder, the number of images per split, and how many were left out for which reason.

    Raises:
        UsageError: no dataset, or an unknown format or class.
        MismatchError: the folder holds something else.
        MissingError: a package of an extra is not installed; the message says what to type.

    Example:
        >>> import tempfile
        >>> import cxrsynth
        >>> folder = tempfile.mkdtemp()
        >>> images = cxrsynth.generate("phantom", n=2, out=f"{folder}/phantoms")
        >>> found = cxrsynth.export(f"{folder}/phantoms", "yolo", to=f"{folder}/yolo")
        >>> sum(found.images.values())
        2
    """
    from cxrsynth.export import export as run

    source = dataset.folder if isinstance(dataset, Dataset) else Path(dataset)
    return run(source, format, Path(to), classes, progress)
