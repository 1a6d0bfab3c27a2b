"""How a radiograph lies is seen from its pixels; what cannot be told is left alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cxrsynth.data.upright import STATES, Turn, judge, orbit, probabilities, ranks
from cxrsynth.store import Store


@pytest.fixture(scope="module")
def images(phantom_dataset: Path) -> list[np.ndarray]:
    """Phantoms, which the weights have never seen."""
    store = Store(phantom_dataset)
    return [store.load_image(row) for row in store.rows()]


def test_upright_images_are_left_alone(images: list[np.ndarray]) -> None:
    for image in images:
        verdict = judge(image)
        assert not verdict.turn
        assert not verdict.refused


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda image: 255 - image, "inverted"),
        (lambda image: image[::-1], "upside down"),
        (lambda image: image[::-1, ::-1], "upside down"),
        (np.rot90, "on its side"),
        (lambda image: np.rot90(image, 3), "on its side"),
        (lambda image: 255 - image[::-1, ::-1], "inverted and upside down"),
    ],
)
def test_a_spoilt_image_is_put_right_or_refused_but_never_taken_as_it_is(
    spoil: Callable[[np.ndarray], np.ndarray], reason: str, images: list[np.ndarray]
) -> None:
    right = 0
    for image in images:
        spoilt = spoil(image).astype(np.float32)
        verdict = judge(spoilt)
        assert verdict.reason.startswith(reason)
        if not verdict.refused:
            shift = verdict.turn(spoilt) - image  # inverting moves all tones by the same amount
            assert np.ptp(shift) < 1e-3
            right += 1
    assert right >= len(images) // 2


def test_most_mirrored_images_are_refused_and_none_is_turned(images: list[np.ndarray]) -> None:
    verdicts = [judge(image[:, ::-1]) for image in images]
    assert not any(verdict.turn for verdict in verdicts)
    assert sum(verdict.refused and "mirrored" in verdict.reason for verdict in verdicts) > len(images) // 2


def test_tone_and_size_change_nothing(images: list[np.ndarray]) -> None:
    image = images[0]
    darker = (image.astype(np.float32) / 255) ** 2 * 4095
    assert np.allclose(probabilities(image), probabilities(darker), atol=0.05)
    assert np.allclose(probabilities(image), probabilities(np.kron(image, np.ones((3, 3)))), atol=0.05)


@pytest.mark.parametrize("image", [np.zeros((64, 64)), np.linspace(0, 255, 4096).reshape(64, 64)])
def test_what_looks_alike_in_several_states_is_left_alone(image: np.ndarray) -> None:
    verdict = judge(image)
    assert not verdict.turn
    assert not verdict.refused


@pytest.mark.parametrize("turn", STATES, ids=str)
def test_a_mask_that_was_turned_comes_back(turn: Turn) -> None:
    mask = np.arange(12).reshape(3, 4)
    assert np.array_equal(turn.back(turn.mask(mask)), mask)


def test_every_state_is_another_image() -> None:
    ranked = ranks(np.random.default_rng(0).random((20, 20)))
    assert len({turned.tobytes() for turned in orbit(ranked)}) == len(STATES) == 16
