"""A blind sheet says nothing about origins; its key says everything."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrsynth.errors import UsageError
from cxrsynth.pages.blind import Shown, blind, write_blind

GRAY = {"real": 60, "simulated": 120, "generated": 180}
GROUPS = {
    name: [Shown(np.full((64, 64), gray, np.uint8), f"{name}-{i}") for i in range(count)]
    for (name, gray), count in zip(GRAY.items(), (3, 5, 4), strict=True)
}


def test_every_origin_has_as_many_images_as_the_smallest() -> None:
    _, key = blind(GROUPS)
    assert sorted(one["group"] for one in key) == sorted(3 * list(GRAY))
    assert len({one["key"] for one in key}) == 9


def test_the_order_is_mixed_and_the_same_for_a_seed() -> None:
    orders = [[one["group"] for one in blind(GROUPS, seed)[1]] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0], key=list(GRAY).index)


def test_the_key_names_the_image_at_its_number() -> None:
    sheet, key = blind(GROUPS)
    shown = np.asarray(sheet.convert("L"))
    counts = {gray: int((shown == gray).sum()) for gray in GRAY.values()}
    assert min(counts.values()) >= 3 * 256 * 256  # all of an origin's images at full size
    first = next(gray for gray in shown[60] if gray in GRAY.values())
    assert GRAY[key[0]["group"]] == first


def test_sheet_and_key_are_files_of_their_own(tmp_path: Path) -> None:
    write_blind(GROUPS, tmp_path / "opacity.png")
    assert len(json.loads((tmp_path / "opacity.key.json").read_text())) == 9
    with Image.open(tmp_path / "opacity.png") as picture:
        assert not picture.info  # nothing is told beside the pixels


def test_images_of_one_origin_are_no_blind_sheet() -> None:
    with pytest.raises(UsageError, match="two origins"):
        blind({"real": GROUPS["real"], "generated": []})
