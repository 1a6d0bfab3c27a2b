"""The scheduling loop that every engine shares."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Protocol

from cxrsynth.errors import CxrError
from cxrsynth.records import Failure, Receipt

# How often a shard is tried in one run; the next run tries again.
TRIES = 2


class Slot(Protocol):
    """Holds one loaded worker, wherever it runs."""

    def submit(self, method: str, *args: Any) -> Future[Any]:
        """Call a method of the worker (``hello`` or ``make``)."""
        ...

    def close(self) -> None:
        """End the worker."""
        ...


def drive(tasks: Iterable[int], open_slot: Callable[[], Slot], slots: int, tries: int) -> Iterator[Receipt | Failure]:
    """Make the shards, each at least once; yields as they finish.

    A slot says ``hello`` before its first task and after every error, in a fresh worker. Only the task that was
    running is charged with a try. An error that the user has to fix (`CxrError`) ends the run.
    """
    todo = deque((shard, 0) for shard in tasks)
    busy: dict[Future[Any], tuple[Slot, tuple[int, int] | None]] = {}

    def start() -> None:
        slot = open_slot()
        busy[slot.submit("hello")] = (slot, None)

    try:
        for _ in range(min(slots, len(todo))):
            start()
        while busy:
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                slot, task = busy.pop(future)
                error = future.exception()
                if error is None:
                    if task is not None:
                        yield future.result()
                    if todo:
                        following = todo.popleft()
                        busy[slot.submit("make", following[0])] = (slot, following)
                    else:
                        slot.close()
                    continue
                slot.close()
                if isinstance(error, CxrError) or not isinstance(error, Exception) or task is None:
                    raise error
                shard, tried = task[0], task[1] + 1
                if tried < tries:
                    todo.append((shard, tried))
                else:
                    trace = "".join(traceback.format_exception(error))
                    yield Failure(shard, f"{type(error).__name__}: {error}", trace, tried)
                if todo:
                    start()
    finally:
        for slot, _ in busy.values():
            slot.close()
