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

Task = tuple[int, int]  # shard, how often it was tried


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
    busy: dict[Future[Any], tuple[Slot, Task | None]] = {}
    # What a slot will be given next, said beforehand so that it can fill its short batches with it.
    promised: dict[Slot, Task] = {}

    def start() -> None:
        slot = open_slot()
        busy[slot.submit("hello")] = (slot, None)

    def hand(slot: Slot) -> bool:
        """Give a slot its next task; False where there is none left."""
        if slot not in promised and not todo and promised:
            todo.append(promised.pop(next(iter(promised))))  # rather than idle, take what another was promised
        task = promised.pop(slot, None) or (todo.popleft() if todo else None)
        if task is None:
            return False
        if todo:
            promised[slot] = todo.popleft()
        busy[slot.submit("make", task[0], promised[slot][0] if slot in promised else None)] = (slot, task)
        return True

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
                    if not hand(slot):
                        slot.close()
                    continue
                slot.close()
                if slot in promised:
                    todo.appendleft(promised.pop(slot))
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
