"""The sparse walk does what the dense one does."""

import numpy as np
import pytest

from cxrsynth.masks.walk import affinities, expansion, offsets, pairs, spread, stack, transition, walk

RNG = np.random.default_rng(0)


def dense_walk(features: np.ndarray, values: np.ndarray, radius: int, beta: float, doublings: int) -> np.ndarray:
    """Section 3.3 of psa, literally: every pair by its distance, the matrix squared again and again."""
    channels, height, width = features.shape
    flat = features.reshape(channels, -1).astype(np.float64)
    row, column = np.divmod(np.arange(height * width), width)
    near = (row[:, None] - row) ** 2 + (column[:, None] - column) ** 2 < radius**2
    matrix = np.exp(-np.abs(flat[:, :, None] - flat[:, None]).mean(axis=0)) ** beta * near
    matrix /= matrix.sum(axis=0, keepdims=True)
    for _ in range(doublings):
        matrix = matrix @ matrix
    return (values.T @ matrix).T


@pytest.mark.parametrize(("height", "width"), [(16, 16), (9, 21), (3, 30)])
def test_the_sparse_walk_equals_the_dense_one(height: int, width: int) -> None:
    features = RNG.normal(size=(6, height, width)).astype(np.float32)
    values = RNG.random((height * width, 4)).astype(np.float32)
    matrix = transition(affinities(features, 5), height, width, 5, 8.0)
    dense = dense_walk(features, values, 5, 8.0, 8)
    np.testing.assert_allclose(walk(matrix, values, 2**8), dense, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 3, 17, 64])
def test_any_number_of_steps_is_that_many_products(steps: int) -> None:
    features = RNG.normal(size=(3, 12, 10)).astype(np.float32)
    matrix = transition(affinities(features, 4), 12, 10, 4, 4.0)
    values = plain = RNG.random((120, 2)).astype(np.float32)
    for _ in range(steps):
        plain = matrix @ plain
    np.testing.assert_allclose(walk(matrix, values, steps), plain, atol=1e-5)


def test_a_radius_of_five_joins_each_place_with_thirty_four_neighbours_ahead() -> None:
    assert len(offsets(5)) == 34
    assert len({*offsets(5), *((-y, -x) for y, x in offsets(5))}) == 68


def test_no_pair_reaches_around_the_border() -> None:
    first, second = pairs(7, 11, 5)
    distance = np.hypot(first // 11 - second // 11, first % 11 - second % 11)
    assert distance.max() < 5
    assert len({(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)}) == len(first)


def test_what_everybody_agrees_on_stays_also_at_the_border() -> None:
    features = RNG.normal(size=(3, 20, 20)).astype(np.float32)
    matrix = transition(affinities(features, 5), 20, 20, 5, 8.0)
    np.testing.assert_allclose(walk(matrix, np.full((400, 1), 0.3, np.float32), 256), 0.3, atol=1e-5)


def test_the_walk_stops_at_an_edge() -> None:
    features = np.zeros((1, 16, 16), np.float32)
    features[:, :, 8:] = 10
    seeds = np.zeros((16, 16, 1), np.float32)
    seeds[4:12, 2:6] = 1
    matrix = transition(affinities(features, 5), 16, 16, 5, 8.0)
    walked = walk(matrix, seeds.reshape(256, 1), 256).reshape(16, 16)
    assert walked[:, :8].min() > 0.1
    assert walked[:, 8:].max() < 1e-4


def test_the_expansion_sums_to_one_and_is_far_shorter_than_the_walk() -> None:
    assert expansion(256).sum() == pytest.approx(1)
    assert len(expansion(256)) < 100


def test_probabilities_still_sum_to_one_after_the_walk() -> None:
    prob = RNG.random((4, 50, 37)).astype(np.float32)
    prob /= prob.sum(axis=0)
    features = RNG.normal(size=(2, 13, 10)).astype(np.float32)
    matrix = transition(affinities(features, 5), 13, 10, 5, 8.0)
    np.testing.assert_allclose(spread(prob, matrix, 13, 10, 64).sum(axis=0), 1, atol=1e-4)


def test_pictures_that_walk_together_walk_as_they_do_alone() -> None:
    matrices, values = [], []
    for height, width in ((12, 10), (9, 16)):
        features = RNG.normal(size=(3, height, width)).astype(np.float32)
        matrices.append(transition(affinities(features, 5), height, width, 5, 8.0))
        values.append(RNG.random((height * width, 3)).astype(np.float32))
    together = walk(stack(matrices), np.concatenate(values), 64)
    alone = np.concatenate([walk(matrix, one, 64) for matrix, one in zip(matrices, values, strict=True)])
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_walk_is_the_same_on_every_device(device: str) -> None:
    torch = pytest.importorskip("torch")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    features = RNG.normal(size=(3, 20, 24)).astype(np.float32)
    matrix = transition(affinities(features, 5), 20, 24, 5, 8.0)
    values = RNG.random((480, 4)).astype(np.float32)
    np.testing.assert_allclose(walk(matrix, values, 256, device), walk(matrix, values, 256), atol=1e-5)
