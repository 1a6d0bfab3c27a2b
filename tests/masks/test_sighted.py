"""Refiners that look at what the network saw: self-attention, and a mask head."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cxrsynth.auxiliary_files import AUXILIARY, read_name
from cxrsynth.errors import MissingError, UsageError
from cxrsynth.masks import chain
from cxrsynth.masks.mask_head import MaskHead
from cxrsynth.masks.refiner import Sighted
from cxrsynth.masks.selfattention import SelfAttention
from cxrsynth.recipe import fingerprint, parse
from cxrsynth.records import BOX
from tests.conftest import phantom_body

BLACK = np.zeros((32, 32), np.uint8)


def halves() -> np.ndarray:
    """Self-attention of a 4 x 4 grid whose left half looks at the left half alone, and the right half likewise."""
    side = np.arange(16) % 4 < 2
    matrix = (side[:, None] == side) / 8
    return matrix.reshape(4, 4, 4, 4).astype(np.float16)


def head(path: Path, classes: list[str]) -> Path:
    """A file that says it is a mask head of these classes; the refiner reads no more of it."""
    told = {"format": AUXILIARY["head"].format, "classes": classes, "model": "m", "net": {}}
    save_file({"w": np.zeros(1, np.float32)}, path, {"cxrsynth": json.dumps(told)})
    return path


READINGS = pytest.mark.parametrize("reading", ["same", "looks"])


def spread(prob: np.ndarray, reads: dict[str, np.ndarray], reading: str) -> np.ndarray:
    """All of the change, and peaks as they come."""
    refiner = SelfAttention.model_validate({"level": 8, "share": 1.0, "restore": False, "reading": reading})
    return refiner.given(reads)(BLACK, prob)


@READINGS
def test_what_is_said_of_a_place_is_said_of_its_part_of_the_picture(reading: str) -> None:
    prob = np.zeros((1, 32, 32), np.float32)
    prob[0, :16, :16] = 1  # the upper half of the left half
    found = spread(prob, {"self_8": halves()}, reading)
    assert found[0, 24:, :8].mean() == pytest.approx(0.5, abs=0.05)
    assert found[0, :, 24:].max() < 0.05


def test_places_that_look_away_from_each_other_at_the_same_places_belong_together() -> None:
    """Each half looks at the other: only the second reading keeps them apart."""
    prob = np.zeros((1, 32, 32), np.float32)
    prob[0, :, :16] = 1
    away = {"self_8": halves()[:, ::-1].copy()}
    assert spread(prob, away, "same")[0, :, :8].min() > 0.9
    assert spread(prob, away, "looks")[0, :, :8].max() < 0.2


@READINGS
def test_what_all_places_agree_on_keeps_its_fine_edges(reading: str) -> None:
    prob = np.zeros((1, 32, 32), np.float32)
    prob[0, 1::2] = 1  # stripes finer than the grid: every cell of it holds one half
    np.testing.assert_allclose(spread(prob, {"self_8": halves()}, reading), prob, atol=0.05)


def test_answers_for_a_part_of_the_picture_change_that_part_only() -> None:
    prob = np.zeros((1, 32, 32), np.float32)
    prob[0, :8, :20] = 1
    reads = {"self_8": halves(), BOX: np.array([0, 0.5, 0, 0.5], np.float32)}
    found = spread(prob, reads, "same")
    np.testing.assert_array_equal(found[:, 16:], prob[:, 16:])
    np.testing.assert_array_equal(found[:, :, 16:], prob[:, :, 16:])
    assert not np.array_equal(found[:, :16, :16], prob[:, :16, :16])


def test_a_picture_without_answers_is_an_error_that_says_where_to_ask() -> None:
    with pytest.raises(UsageError, match="self_2") as caught:
        chain.refine(BLACK, np.ones((1, 32, 32), np.float32), [SelfAttention()])
    assert "annotate" in caught.value.hint


def test_a_mask_head_puts_its_own_classes_by_name_in_place_of_attention(tmp_path: Path) -> None:
    path = head(tmp_path / "d.safetensors", ["heart", "left_lung"])
    said = np.zeros((2, 4, 4), np.float16)
    said[0, :, :2], said[1, :, 2:] = 1, 0.75
    (refiner,) = chain.build([{"use": "mask_head", "head": str(path)}], ["left_lung", "heart", "aorta"])
    prob = np.full((3, 32, 32), 0.2, np.float32)
    assert isinstance(refiner, Sighted)
    found = refiner.given({read_name(path): said})(BLACK, prob)
    assert found[1, :, :8].min() == 1
    assert found[0, :, 24:].min() == 0.75
    # A class the mask head does not know shares in what it takes for background.
    np.testing.assert_allclose(found[2, :, 28:], 0.2 * 0.25, atol=1e-6)


def test_a_class_that_the_gate_took_for_absent_stays_absent(tmp_path: Path) -> None:
    path = head(tmp_path / "d.safetensors", ["heart"])
    (refiner,) = chain.build([{"use": "mask_head", "head": str(path)}], ["heart"])
    assert isinstance(refiner, Sighted)
    told = refiner.given({read_name(path): np.ones((1, 4, 4), np.float16)})
    assert told(BLACK, np.zeros((1, 32, 32), np.float32)).max() == 0


def test_answers_of_another_mask_head_are_not_taken_for_its_own(tmp_path: Path) -> None:
    one, other = head(tmp_path / "a.safetensors", ["heart"]), head(tmp_path / "b.safetensors", ["left_lung"])
    told = MaskHead(head=str(one)).given({read_name(other): np.ones((1, 4, 4), np.float16)})
    with pytest.raises(UsageError, match="not asked"):
        told(BLACK, np.ones((1, 32, 32), np.float32))


def test_a_file_that_is_no_mask_head_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "no.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(MissingError, match="mask_head"):
        MaskHead(head=str(tmp_path / "no.safetensors"))(BLACK, np.ones((1, 32, 32), np.float32))


def test_a_mask_head_is_in_the_fingerprint_by_its_content(tmp_path: Path) -> None:
    paths = [head(tmp_path / f"{name}.safetensors", [name]) for name in ("heart", "lungs")]
    bodies = [phantom_body(masks={"refine": [{"use": "mask_head", "head": str(path)}]}) for path in paths]
    one, other = (fingerprint(parse(body), "") for body in bodies)
    assert one != other
    again = phantom_body(
        masks={"refine": [{"use": "mask_head", "head": str(head(tmp_path / "x.safetensors", ["heart"]))}]}
    )
    assert fingerprint(parse(again), "") == one


def test_a_recipe_knows_what_its_chain_asks_of_the_network() -> None:
    chained = ["crf", {"use": "selfattention", "level": 1}, "selfattention", "mask_head", "selfattention"]
    asked = parse(phantom_body(masks={"refine": chained})).asked()
    assert (asked.levels, asked.heads) == ((1, 2), ("mini",))
    assert not parse(phantom_body()).asked()
