"""Overlays and contact sheets: what is painted where."""

from __future__ import annotations

import numpy as np
import pytest

from cxrsynth.errors import UsageError
from cxrsynth.pages.sheet import Item, colour, contact_sheet, mark_right, outline, overlay, plain, wrap
from tests.small_dataset import CLASSES, chest


def test_an_overlay_leaves_the_background_as_it_is() -> None:
    image, mask = chest(0)
    painted = np.asarray(overlay(image, mask))
    assert painted.shape == (64, 64, 3)
    assert (painted[mask == 0] == image[mask == 0][:, None]).all()


def test_an_overlay_draws_the_rim_in_the_colour_of_the_class() -> None:
    image, mask = chest(0)
    painted = np.asarray(overlay(image, mask))
    for class_id in CLASSES.values():
        assert (painted[outline(mask == class_id, 1)] == colour(class_id)).all()


def test_an_overlay_without_a_mask_is_the_gray_picture() -> None:
    image, _ = chest(0)
    assert (np.asarray(overlay(image, None)) == image[..., None]).all()


def test_an_overlay_takes_the_colours_and_strength_it_is_given() -> None:
    image, mask = chest(0)
    painted = np.asarray(overlay(image, mask, colours={1: (1, 2, 3)}, alpha=1.0, line=0))
    assert (painted[mask == 1] == (1, 2, 3)).all()


def test_overlapping_layers_are_painted_over_each_other() -> None:
    image, mask = chest(0)
    under, over = mask == 1, np.zeros_like(mask, dtype=bool)
    over[30:34, 14:20] = True
    painted = np.asarray(overlay(image, mask, layers={1: under, 4: over}, alpha=1.0, line=0))
    assert (painted[over] == colour(4)).all()
    assert (painted[under & ~over] == colour(1)).all()


def test_a_region_cut_off_by_the_edge_has_no_rim_there() -> None:
    inside = np.zeros((8, 8), dtype=bool)
    inside[:4] = True
    rim = outline(inside, 1)
    assert rim[3].all()
    assert not rim[:3].any()


def test_a_mask_of_another_size_is_an_error() -> None:
    image, mask = chest(0)
    with pytest.raises(UsageError, match="mask"):
        overlay(image, mask[:32])


def test_a_contact_sheet_puts_each_picture_beside_its_overlay() -> None:
    image, mask = chest(0)
    sheet = np.asarray(contact_sheet([Item(image, mask)], cell=64, captions=False))
    plain_part, labelled = sheet[18:82, 18:82], sheet[18:82, 84:148]
    assert (plain_part == image[..., None]).all()
    assert (labelled[outline(mask == 2, 1)] == colour(2)).all()


def test_a_contact_sheet_breaks_into_rows() -> None:
    items = [Item(*chest(number)) for number in range(5)]
    one = contact_sheet(items[:1], columns=1, cell=64)
    all_ = contact_sheet(items, columns=2, cell=64)
    assert all_.height > 2 * one.height
    assert all_.width > 1.5 * one.width


def test_a_rejected_picture_is_framed() -> None:
    image, mask = chest(0)
    quiet = np.asarray(contact_sheet([Item(image, mask, title="k")], cell=64))
    loud = np.asarray(contact_sheet([Item(image, mask, title="k", reason="area.heart.small")], cell=64))
    assert not (quiet[16, 40] == loud[16, 40]).all()


def test_a_legend_shows_every_colour() -> None:
    image, mask = chest(0)
    many = {f"some_long_class_name_{i}": i for i in range(1, 8)}
    sheet = np.asarray(contact_sheet([Item(image, mask)], cell=96, legend=many))
    head = sheet[:200].reshape(-1, 3)
    assert all((head == colour(i)).all(axis=1).any() for i in many.values())


def test_the_patients_right_is_marked_on_the_pictures_left() -> None:
    black = overlay(np.zeros((128, 128), dtype=np.uint8), None)
    lit = np.asarray(mark_right(black)).max(axis=2) > 128
    assert lit[:32, :32].any()
    assert not lit[:, 64:].any()


def test_an_image_nobody_labelled_is_not_shown_twice() -> None:
    image, mask = chest(0)
    sheet = np.asarray(contact_sheet([Item(image, mask), Item(image)], columns=1, cell=64, captions=False))
    below = sheet[18 + 64 + 14 :][:64]
    assert (below[:, 18:82] == image[..., None]).all()
    assert below[2:20, 90:140].max() < 30


def test_images_of_different_shapes_share_a_sheet() -> None:
    wide, tall = np.full((40, 80), 99, np.uint8), np.full((80, 40), 99, np.uint8)
    sheet = contact_sheet([Item(wide), Item(tall)], columns=2, cell=64)
    assert sheet.height >= 128


def test_a_sheet_of_nothing_is_an_error() -> None:
    with pytest.raises(UsageError, match="nothing"):
        contact_sheet([])


def test_a_long_prompt_ends_in_an_ellipsis() -> None:
    lines = wrap("word " * 100, 200, 2, 13)
    assert len(lines) == 2
    assert lines[-1].endswith("…")


def test_letters_the_font_lacks_are_replaced() -> None:
    assert plain("Pneumothorax à gauche\n– 胸") == "Pneumothorax a gauche - ?"
