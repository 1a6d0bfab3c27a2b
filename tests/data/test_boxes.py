"""Boxes are where they were drawn, whatever ingesting did to the image."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrsynth.data.boxes import Box, boxes_of, fill, zone_of
from cxrsynth.errors import UsageError
from cxrsynth.ingest.collection import Collection
from cxrsynth.ingest.convert import ingest
from cxrsynth.store import Store


def row(boxes: list[object], content: list[int] | None) -> dict[str, object]:
    return {"key": "image", "boxes_rsna": json.dumps(boxes), "boxes_nih": "", "content_box": content}


def test_a_box_moves_with_the_content_that_was_cut_out() -> None:
    (box,) = boxes_of(row([["rsna:lung_opacity", 60, 40, 100, 50]], [10, 20, 210, 120]))
    assert (box.left, box.top, box.right, box.bottom) == pytest.approx((0.25, 0.2, 0.75, 0.7))
    assert (box.reader, box.finding) == ("rsna", "opacity")


def test_a_box_outside_the_content_is_dropped_and_one_across_its_edge_is_cut() -> None:
    found = boxes_of(row([["rsna:lung_opacity", 0, 0, 9, 9], ["rsna:lung_opacity", 0, 30, 60, 40]], [10, 20, 110, 120]))
    assert [(box.left, box.top, box.right, box.bottom) for box in found] == [pytest.approx((0.0, 0.1, 0.5, 0.5))]


def test_boxes_without_a_content_box_are_refused() -> None:
    with pytest.raises(UsageError, match="no content_box"):
        boxes_of(row([["rsna:lung_opacity", 0, 0, 9, 9]], None))


def test_an_image_without_boxes_needs_no_content_box() -> None:
    assert boxes_of({"key": "image"}) == []


def test_filling_marks_the_pixels_whose_middle_is_inside() -> None:
    found = fill([Box("rsna", "opacity", 0.25, 0.0, 0.75, 0.5)], (4, 8))
    assert np.array_equal(np.argwhere(found), [[y, x] for y in range(2) for x in range(2, 6)])


def test_the_thinnest_box_marks_a_pixel() -> None:
    assert fill([Box("rsna", "nodule", 0.999, 0.999, 1.0, 1.0)], (8, 8)).sum() == 1


def test_a_bright_rectangle_lies_in_its_box_after_ingest(tmp_path: Path) -> None:
    """A wide image with a dark border, cut and squashed as ingest does it: the box must follow."""
    picture = np.full((120, 200), 60, np.uint8)
    picture[:, :20] = 0
    picture[50:80, 130:170] = 255
    (tmp_path / "in/clinic/images").mkdir(parents=True)
    Image.fromarray(picture).save(tmp_path / "in/clinic/images/a.png")
    boxes = json.dumps([["rsna:lung_opacity", 130, 50, 40, 30]]).replace('"', '""')
    (tmp_path / "in/metadata.csv").write_text(
        "id,source,use,split,caption,licence,content_box,boxes_rsna\n"
        f'a,clinic,open,test,Chest X-ray.,CC0,20 0 200 120,"{boxes}"\n'
    )
    ingest(Collection(tmp_path / "in"), tmp_path / "out", size=64, polarity="keep")
    store = Store(tmp_path / "out")
    (only,) = store.rows()
    bright, marked = store.load_image(only) > 160, fill(boxes_of(only), (64, 64))
    assert (bright & marked).sum() / (bright | marked).sum() > 0.9


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("PTB in the right upper field", "right upper zone"),
        ("secondary PTB in the left middle field", "left mid zone"),
        ("STB of the left lower field, with calcification", "left lower zone"),
        ("PTB in the bilateral upper field", ""),
        ("PTB in the right upper and middle field", ""),
        ("right PTB", ""),
        ("normal", ""),
    ],
)
def test_a_reading_has_a_zone_where_it_names_one_alone(text: str, zone: str) -> None:
    assert zone_of({"text": text}) == zone
