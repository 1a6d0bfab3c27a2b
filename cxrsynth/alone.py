"""One training a place: whoever trains holds the folder or file it writes to, and never writes into its data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from cxrsynth.data.paths import refuse_overlap
from cxrsynth.lock import placing, writing

P = ParamSpec("P")
T = TypeVar("T")

# What trainings call the datasets they read.
DATA = ("data", "pilot", "sources", "validation")


def alone(train: Callable[P, T]) -> Callable[P, T]:
    """A training that nobody else can start at the same time in the same place.

    Its ``run`` is a folder that is held whole; its ``out`` is a file, beside which other trainings may go on. Of the
    processes of ``accelerate launch`` the first one holds it for all.

    Raises:
        UsageError: another training is writing there, or the place lies in the data.
    """
    names = signature(train)

    @wraps(train)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        given = names.bind(*args, **kwargs).arguments
        place: Path = given["run"] if "run" in given else given["out"]
        for root in _roots(given):
            refuse_overlap(root, place)
        held: AbstractContextManager[None] = nullcontext()
        if os.environ.get("RANK", "0") == "0":
            held = writing(place) if "run" in given else placing(place)
        with held:
            return train(*args, **kwargs)

    return guarded


def _roots(given: dict[str, Any]) -> Iterator[Path]:
    """The folders of the datasets among the arguments of a training."""
    for name in DATA:
        value = given.get(name, ())
        for one in [value] if isinstance(value, Path) else value:
            yield one if isinstance(one, Path) else one.root
