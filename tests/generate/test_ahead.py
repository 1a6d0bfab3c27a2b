"""What a batch needs from the processor is made while the batch before is generated."""

from threading import get_ident

import numpy as np
import pytest

from cxrsynth.errors import UsageError
from cxrsynth.factory.batches import draws
from cxrsynth.factory.prompts import spec
from cxrsynth.generate.control.ahead import Ahead
from cxrsynth.recipe import parse
from cxrsynth.records import Draw, Spec
from tests.conftest import phantom_body

SPECS = [spec(parse(phantom_body()), index) for index in range(6)]


def test_a_result_is_made_once_and_beside() -> None:
    made: list[tuple[int, bool]] = []

    def make(one: Spec) -> np.ndarray:
        made.append((one.index, get_ident() == mine))
        return np.full(1, one.index)

    mine, ahead = get_ident(), Ahead(make)
    ahead.prepare(SPECS[:4])
    ahead.prepare(SPECS[2:6])  # 2 and 3 are made already, 0 and 1 are not asked for any more
    assert [int(ahead.take(one)[0]) for one in SPECS[2:6]] == [2, 3, 4, 5]
    assert sorted(made) == [(index, False) for index in range(6)]
    ahead.take(SPECS[0])
    assert made[-1] == (0, True)


def test_what_goes_wrong_is_said_where_it_is_asked_for() -> None:
    def fail(one: Spec) -> None:
        raise UsageError("the label map does not fit", "squash it")

    ahead = Ahead(fail)
    ahead.prepare(SPECS[:1])
    with pytest.raises(UsageError, match="does not fit"):
        ahead.take(SPECS[0])


def test_the_next_batch_is_announced_with_the_one_before() -> None:
    class Announced:
        def __init__(self) -> None:
            self.told: list[list[int]] = []

        def prepare(self, specs: list[Spec]) -> None:
            self.told.append([one.index for one in specs])

        def draw(self, specs: list[Spec]) -> list[Draw]:
            return [Draw(np.zeros((1, 1), np.uint8), np.zeros((1, 1, 1), np.float32)) for _ in specs]

    generator = Announced()
    list(draws(SPECS, generator, 2))
    assert generator.told == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5]]
