"""Label maps that are deformed while the batch before is generated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from cxrsynth.records import Spec

Anatomy = np.ndarray | None


class Ahead:
    """Calls a function for Specs beforehand, in a thread beside the one that generates.

    Args:
        function: what a Spec imposes; depends on the Spec alone, so that a result has the same bits early or late.
    """

    def __init__(self, function: Callable[[Spec], Anatomy]) -> None:
        self.function = function
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="deform")
        self.waiting: dict[int, Future[Anatomy]] = {}

    def prepare(self, specs: Sequence[Spec]) -> None:
        """Begin with these; what was begun before and is not among them is forgotten."""
        self.waiting = {
            one.index: self.waiting.get(one.index) or self.thread.submit(self.function, one) for one in specs
        }

    def take(self, spec: Spec) -> Anatomy:
        """The result for a Spec, begun before or computed now; it raises what the function raises."""
        begun = self.waiting.pop(spec.index, None)
        return self.function(spec) if begun is None else begun.result()
