"""No command writes into what it reads: checked for every command from what its options are called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.core import TyperCommand

from cxrsynth.data.paths import refuse_overlap

# Options that name what is written.
WRITTEN = ("out", "worst", "reject_copies", "picture", "variety")
# Recipes and models, which may be bundled: a folder of that name is another thing.
NAMES = ("prompts", "recipe", "chains", "to")
# Folders of networks: the results of a network may well lie in its own run folder.
NETWORKS = ("weights", "segmenter", "classifier", "init", "model", "base", "adapter", "lora", "downstream", "inception")


class Apart(TyperCommand):
    """A command whose outputs lie outside its inputs; a file that is read is never overwritten either.

    Raises:
        UsageError: an output is an input, or lies in one.
    """

    def invoke(self, ctx: Any) -> Any:
        """Check, then run."""
        inputs = [path for name in read_by(self.callback) for path in _there(ctx.params.get(name), name)]
        for name in WRITTEN:
            if ctx.params.get(name) is not None:
                for path in inputs:
                    refuse_overlap(path, Path(ctx.params[name]))
        return super().invoke(ctx)


def read_by(callback: Any) -> list[str]:
    """Names of the parameters of a command that say what it reads: paths, and ``PATH:WEIGHT:IMAGES``."""
    hints = get_type_hints(callback)
    paths = [name for name, hint in hints.items() if _speaks_of_paths(hint) or name in ("data", "val")]
    return [name for name in paths if name not in (*WRITTEN, *NETWORKS)]


def _speaks_of_paths(hint: Any) -> bool:
    """``Path``, ``Path | None``, ``list[Path] | None``."""
    return hint is Path or any(map(_speaks_of_paths, get_args(hint)))


def _there(value: Any, name: str) -> Iterator[Path]:
    """The paths among the values of an option that are there."""
    for one in value if isinstance(value, list | tuple) else [value]:
        first = str(one).rpartition(":")[0]
        known = [Path(text) for text in (str(one), first, first.rpartition(":")[0]) if text] if one else []
        there = Path.is_file if name in NAMES else Path.exists
        yield from [path for path in known if there(path)][:1]
