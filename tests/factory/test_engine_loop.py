"""The scheduling loop: hello first, one try for the task that ran, a fresh worker after an error."""

from concurrent.futures import Future
from typing import Any

import pytest

from cxrsynth.errors import RecipeError
from cxrsynth.factory.engines.loop import TRIES, drive
from cxrsynth.records import Failure


class Fake:
    """A slot that does at once what the script says of a shard: an error per try, then success."""

    opened = 0

    def __init__(self, script: dict[int, list[Exception]], log: list[Any]) -> None:
        Fake.opened += 1
        self.number, self.script, self.log, self.closed = Fake.opened, script, log, False

    def submit(self, method: str, *args: Any) -> Future[Any]:
        assert not self.closed, "a closed slot was used"
        self.log.append((self.number, method, *args))
        future: Future[Any] = Future()
        errors = self.script.get(args[0], []) if args else []
        if errors:
            future.set_exception(errors.pop(0))
        else:
            future.set_result(args[0] if args else "hello")
        return future

    def close(self) -> None:
        self.closed = True


def go(
    script: dict[int, list[Exception]], tasks: int = 4, slots: int = 1, ahead: int = 1
) -> tuple[list[Any], list[Any]]:
    Fake.opened = 0
    log: list[Any] = []
    return list(drive(range(tasks), lambda: Fake(script, log), slots, TRIES, ahead)), log


@pytest.mark.parametrize("slots", [1, 3, 9])
def test_every_shard_is_made_once(slots: int) -> None:
    results, log = go({}, slots=slots)
    assert sorted(results) == [0, 1, 2, 3]
    assert len([entry for entry in log if entry[1] == "make"]) == 4


@pytest.mark.parametrize(
    ("ahead", "told"),
    [(1, [(1,), (2,), (3,), ()]), (2, [(1, 2), (2, 3), (3,), ()]), (9, [(1, 2, 3), (2, 3), (3,), ()])],
)
def test_a_worker_is_told_what_comes_next(ahead: int, told: list[tuple[int, ...]]) -> None:
    _, log = go({}, ahead=ahead)
    assert [entry[2:] for entry in log if entry[1] == "make"] == list(enumerate(told))


@pytest.mark.parametrize(("slots", "tries"), [(1, 1), (3, 1), (3, TRIES)])
def test_what_a_lost_worker_was_promised_is_made_by_others(slots: int, tries: int) -> None:
    results, log = go({0: [RuntimeError("lost")] * tries}, tasks=9, slots=slots, ahead=4)
    made = [result for result in results if not isinstance(result, Failure)]
    assert sorted(made) == list(range(tries // TRIES, 9))
    assert len([entry for entry in log if entry[1] == "make"]) == 9 + min(tries, TRIES - 1)


def test_no_worker_idles_while_another_was_promised_a_shard() -> None:
    _, log = go({}, tasks=2, slots=2)
    assert len({entry[0] for entry in log if entry[1] == "make"}) == 2


def test_a_worker_says_hello_before_its_first_task() -> None:
    _, log = go({}, slots=2)
    first = {number: method for number, method, *_ in reversed(log)}
    assert set(first.values()) == {"hello"}


def test_a_failed_shard_is_tried_again_by_a_fresh_worker() -> None:
    results, log = go({1: [RuntimeError("once")]})
    assert sorted(results) == [0, 1, 2, 3]
    tries = [entry[0] for entry in log if entry[1:3] == ("make", 1)]
    assert len(set(tries)) == 2


def test_a_shard_that_keeps_failing_is_given_up_and_the_others_are_made() -> None:
    results, _ = go({1: [RuntimeError("again")] * TRIES})
    failures = [result for result in results if isinstance(result, Failure)]
    assert [(failure.shard, failure.tries) for failure in failures] == [(1, TRIES)]
    assert sorted(result for result in results if not isinstance(result, Failure)) == [0, 2, 3]


def test_a_failure_at_the_very_end_is_tried_again() -> None:
    results, _ = go({3: [RuntimeError("late")]})
    assert sorted(results) == [0, 1, 2, 3]


def test_an_error_of_the_user_ends_the_run() -> None:
    with pytest.raises(RecipeError):
        go({2: [RecipeError("wrong", "fix it")]})


def test_a_worker_that_is_lost_while_it_starts_is_replaced() -> None:
    class Slow(Fake):
        def submit(self, method: str, *args: Any) -> Future[Any]:
            future = super().submit(method, *args)
            if method == "hello" and self.number == 1:
                future = Future()
                future.set_exception(OSError("the node is gone"))
            return future

    Fake.opened = 0
    assert sorted(drive(range(3), lambda: Slow({}, []), 1, TRIES)) == [0, 1, 2]


def test_a_worker_that_cannot_say_hello_ends_the_run() -> None:
    class Mute(Fake):
        def submit(self, method: str, *args: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(OSError("no GPU"))
            return future

    with pytest.raises(OSError, match="no GPU"):
        list(drive(range(3), lambda: Mute({}, []), 1, TRIES))
