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


def drive(
    tasks: Iterable[int], open_slot: Callable[[], Slot], slots: int, tries: int, ahead: int = 1
) -> Iterator[Receipt | Failure]:
    """Make the shards, each at least once; yields as they finish.

    A slot says ``hello`` before its first task and after every error, in a fresh worker. Only the task that was
    running is charged with a try. An error that the user has to fix (`CxrError`) ends the run.

    Args:
        ahead: how many shards a slot is promised beyond the one it makes, so that it can fill its short batches.
    """
    todo = deque((shard, 0) for shard in tasks)
    busy: dict[Future[Any], tuple[Slot, Task | None]] = {}
    promised: dict[Slot, deque[Task]] = {}
    mute = 0  # workers in a row that ended before they said hello

    def start() -> None:
        slot = open_slot()
        promised[slot] = deque()
        busy[slot.submit("hello")] = (slot, None)

    def hand(slot: Slot) -> bool:
        """Give a slot its next task; False where there is none left."""
        own = promised[slot]
        if not own and not todo:
            # Rather than idle, take the last that another was promised: the one it is least likely to have begun.
            longest = max(promised.values(), key=len)
            own.extend([longest.pop()] if longest else [])
        if not own and not todo:
            return False
        task = own.popleft() if own else todo.popleft()
        share = -(-(len(todo) + len(own)) // slots)  # near the end nobody is promised what another could begin
        while todo and len(own) < min(ahead, share):
            own.append(todo.popleft())
        busy[slot.submit("make", task[0], tuple(shard for shard, _ in own))] = (slot, task)
        return True

    def end(slot: Slot) -> None:
        """Close a slot; what it was promised is free again."""
        slot.close()
        todo.extendleft(reversed(promised.pop(slot)))

    try:
        for _ in range(min(slots, len(todo))):
            start()
        while busy:
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                slot, task = busy.pop(future)
                error = future.exception()
                if error is None:
                    mute = 0
                    if task is not None:
                        yield future.result()
                    if not hand(slot):
                        end(slot)
                    continue
                end(slot)
                if isinstance(error, CxrError) or not isinstance(error, Exception):
                    raise error
                if task is None:
                    # A worker may be lost while it starts; one that never starts is no accident.
                    mute += 1
                    if mute >= tries:
                        raise error
                    if todo:
                        start()
                    continue
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
