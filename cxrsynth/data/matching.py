"""Names in a table, files in a folder: which belongs to which, by path and not by the last part of it."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

Form = Callable[[str], str]
DEEPEST = 32  # folders; a path with more is matched by its last ones

# What people append to the name of an image for the name of its mask.
MASK_WORDS = re.compile(r"(^(mask|label|seg)[_-])|([_-](masks?|labels?|seg|segmentation|gt))$", re.IGNORECASE)


def plain(name: str) -> str:
    """A path as it is written everywhere: composed letters, forward slashes, no ``./``."""
    return str(PurePosixPath(unicodedata.normalize("NFC", name.strip()).replace("\\", "/")))


def caseless(name: str) -> str:
    """A path where case does not count."""
    return plain(name).casefold()


def bare(name: str) -> str:
    """A path without case and without its ending."""
    path = PurePosixPath(caseless(name))
    stem = path.name.removesuffix(".gz")
    return str(path.with_name(re.sub(r"(?<=.)\.[a-z0-9]{1,5}$", "", stem))) if path.name else str(path)


def unmasked(name: str) -> str:
    """A path without case, ending, and the word that says it is a mask."""
    path = PurePosixPath(bare(name))
    return str(path.with_name(MASK_WORDS.sub("", path.name) or path.name)) if path.name else str(path)


FILES: tuple[Form, ...] = (plain, caseless, bare)
MASKS: tuple[Form, ...] = (bare, unmasked)


@dataclass(frozen=True, slots=True)
class Matches:
    """What belongs together.

    Attributes:
        of: position of a file -> position of its name.
        left: positions of the names that no file has.
    """

    of: dict[int, int]
    left: tuple[int, ...]


def match(names: Sequence[str], files: Sequence[str], forms: Sequence[Form] = FILES) -> Matches:
    """Pair names with files, both paths relative to folders that may differ by some levels.

    A name and a file belong together where the one ends with the whole of the other and nobody else on either side
    does: ``train/p1/view1.jpg`` is the file ``p1/view1.jpg``, but ``1.png`` is none of ``p1/1.png`` and ``p2/1.png``,
    and ``p1/1.png`` is not ``p2/1.png``. Longer shared paths win, and stricter forms before looser ones.

    Args:
        names: as a table has them.
        files: as they lie in the folder.
        forms: how the two are written to be compared, strictest first.
    """
    found: dict[int, int] = {}
    free_names, free_files = set(range(len(names))), set(range(len(files)))
    for form in forms:
        ours = [PurePosixPath(form(name)).parts for name in names]
        theirs = [PurePosixPath(form(file)).parts for file in files]
        deepest = min(max((len(parts) for parts in ours + theirs), default=0), DEEPEST)
        # All of one first: a whole path that is equal is the pair, whatever else ends alike.
        for depth in (0, *range(deepest, 0, -1)):
            mine, yours = _tails(ours, depth), _tails(theirs, depth)
            for tail, positions in mine.items():
                others = yours.get(tail, [])
                if len(positions) != 1 or len(others) != 1:
                    continue
                name, file = positions[0], others[0]
                whole = not depth or depth in (len(ours[name]), len(theirs[file]))
                if whole and name in free_names and file in free_files:
                    found[file] = name
                    free_names.discard(name)
                    free_files.discard(file)
    return Matches(found, tuple(sorted(free_names)))


def _tails(paths: Sequence[tuple[str, ...]], depth: int) -> dict[tuple[str, ...], list[int]]:
    """The last ``depth`` parts (0: all of them) -> who has them."""
    found: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for position, parts in enumerate(paths):
        if parts and len(parts) >= depth:
            found[parts[-depth:] if depth else parts].append(position)
    return found


def patient_of(name: str) -> str:
    """The patient that a path names, or nothing: ``00000013_005`` ``patient0032/``, ``p10000032/``.

    Only forms that public collections use: in ``image_001`` and ``image_002`` the first part is no patient.
    """
    path = PurePosixPath(plain(name))
    folders = [part for part in path.parts[:-1] if re.fullmatch(r"patient[_-]?\d+|p\d{8}", part, re.IGNORECASE)]
    if folders:
        return folders[-1]
    followed = re.fullmatch(r"(\d{4,})_\d{1,3}", PurePosixPath(bare(name)).name)
    return followed.group(1) if followed else ""
