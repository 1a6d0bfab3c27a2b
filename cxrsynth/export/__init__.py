"""Datasets in the forms that other tools read: one file per format, all written by the same rules.

An export is built in ``OUT.partial`` and renamed to ``OUT`` when it is whole, so that a half export is never taken for
a whole one. Running the command again continues; a dataset that has grown since is brought up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cxrsynth import registry
from cxrsynth.data.paths import refuse_overlap
from cxrsynth.errors import MissingError
from cxrsynth.export.folder import Folder, building
from cxrsynth.export.readme import page
from cxrsynth.export.selection import Selection, select

Advance = Callable[[int, int], None]


class Export(Protocol):
    """One format. The class is the registry entry; it takes no arguments.

    Attributes:
        masks_only: whether images without a complete mask are left out, because the format would read a missing mask
            as an image in which nothing is to be seen.
    """

    masks_only: bool

    def write(self, dataset: Selection, folder: Folder) -> None:
        """Write every file of the format but README.md, those that name the others last."""
        ...


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        folder: where it is.
        format: name of the format.
        images: split -> images.
        left_out: reason -> images that are not in it.
        files: number of files.
        written: how many of them were written by this run; the others were there already.
    """

    folder: Path
    format: str
    images: dict[str, int]
    left_out: dict[str, int]
    files: int
    written: int


def export(
    dataset: Path, form: str, out: Path, classes: Sequence[str] = (), advance: Advance | None = None
) -> Exported:
    """Write a dataset in another format.

    Args:
        dataset: folder that generate, refine, annotate, segment or ingest wrote.
        form: name of the format: hf, nnunet, coco, yolo, webdataset, monai, or one that a plug-in adds.
        out: folder to write; absent, empty, or an earlier export of the same dataset.
        classes: names of the classes to export; all by default.
        advance: told (images done, images in all).

    Raises:
        UsageError: no dataset, an unknown format or class, nothing to export, or ``out`` cannot be written.
        MismatchError: ``out`` holds something else.
        MissingError: a package of the extra ``export`` is not installed.
    """
    writer: Export = load(form)
    refuse_overlap(dataset, out, around=True)
    chosen = select(dataset, masks_only=writer.masks_only, classes=classes, advance=advance)
    identity = {"format": form, "fingerprint": chosen.summary.fingerprint, "classes": list(chosen.classes)}
    with building(out, identity, chosen.digest) as folder:
        if not folder.whole:
            writer.write(chosen, folder)
            if "README.md" not in folder.files:
                folder.put("README.md", page(chosen, form).encode())
            folder.finish({**chosen.provenance(), "images": chosen.splits(), "left_out": dict(chosen.left_out)})
    return Exported(out, form, chosen.splits(), dict(chosen.left_out), len(folder.files), folder.written)


def load(form: str) -> Export:
    """The writer of a format.

    Raises:
        UsageError: an unknown name; the right ones are listed.
        MissingError: it needs a package that is not installed.
    """
    try:
        writer: Export = registry.load("exports", form)()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "cxrsynth":
            raise
        raise MissingError(
            f"format '{form}' needs the package {error.name}", f"pip install 'cxrsynth[{extra(form)}]'"
        ) from error
    return writer


def extra(form: str) -> str:
    """The extra of the package that a format needs."""
    return "dicom" if form == "dicom" else "export"
