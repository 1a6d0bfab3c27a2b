"""What lies in a folder: the images, and everything else by its kind, so that nothing is passed over in silence."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from cxrsynth.data.paths import is_clutter, shown

# What people call the kinds of files that are not read as images here.
KINDS = {
    ".dcm": "DICOM", ".dicom": "DICOM", ".ima": "DICOM", ".nii": "NIfTI", ".mha": "MetaImage", ".mhd": "MetaImage",
    ".nrrd": "NRRD", ".webp": "WebP", ".gif": "GIF", ".jp2": "JPEG 2000", ".j2k": "JPEG 2000", ".npy": "NumPy",
    ".npz": "NumPy", ".pdf": "PDF", ".zip": "ZIP", ".tar": "TAR", ".heic": "HEIC", ".avif": "AVIF",
}  # fmt: skip
# Say something about the images, and are none.
ABOUT = {".csv", ".json", ".jsonl", ".txt", ".md", ".yaml", ".yml", ".xml", ".html", ""}


@dataclass(frozen=True, slots=True)
class Found:
    """The files below a folder.

    Attributes:
        images: relative paths of the files that are read, sorted.
        skipped: kind -> how many files are not, and what desktops leave not counted.
        troubles: (relative path, reason) of folders that cannot be looked into.
    """

    images: list[Path]
    skipped: dict[str, int] = field(default_factory=dict)
    troubles: list[tuple[str, str]] = field(default_factory=list)

    def told(self) -> str:
        """``9 DICOM files, 1 GIF file``; empty where nothing was passed over."""
        return ", ".join(f"{n} {kind} file{'s' if n > 1 else ''}" for kind, n in sorted(self.skipped.items()))


def scan(root: Path, suffixes: Collection[str], without: Collection[Path] = ()) -> Found:
    """Look through a folder; links to folders are not followed, so that it ends and stays inside.

    Args:
        suffixes: endings of images, lower case with their dot.
        without: folders in it that hold something else.
    """
    images: list[Path] = []
    skipped: Counter[str] = Counter()
    troubles: list[tuple[str, str]] = []

    def failed(error: OSError) -> None:
        troubles.append((shown(error.filename or root), f"cannot be read: {error.strerror or error}"))

    for place, folders, files in os.walk(root, onerror=failed):
        here = Path(place)
        linked = [name for name in folders if (here / name).is_symlink()]
        troubles += [(shown((here / name).relative_to(root)), "a link to a folder is not followed") for name in linked]
        folders[:] = sorted(
            name
            for name in set(folders) - set(linked)
            if here / name not in without and not is_clutter(Path(name)) and not name.startswith(".")
        )
        for name in sorted(files):
            if is_clutter(Path(name)) or name.startswith("."):
                continue
            ending = Path(name.removesuffix(".gz")).suffix.lower()
            if Path(name).suffix.lower() in suffixes:
                images.append((here / name).relative_to(root))
            elif ending in KINDS:
                skipped[KINDS[ending]] += 1
            elif ending not in ABOUT or _is_dicom(here / name):
                skipped["DICOM" if ending in ABOUT else ending] += 1
    return Found(sorted(images), dict(skipped), sorted(troubles))


def _is_dicom(path: Path) -> bool:
    """Whether a file without an ending is DICOM: archives name them by a number only."""
    try:
        if path.suffix or not path.is_file():
            return False
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
