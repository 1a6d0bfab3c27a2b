"""A mask means the same ids however it was saved, or is refused with a reason."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrsynth.data.masks import MaskError, read_mask

IDS = np.array([[0, 1, 2], [3, 3, 0]], np.uint8)
COLOURS = {(255, 0, 0): 1, (0, 255, 0): 2, (0, 0, 255): 3}


def save(tmp_path: Path, image: Image.Image, name: str = "m.png") -> Path:
    image.save(tmp_path / name)
    return tmp_path / name


def palette(ids: np.ndarray) -> Image.Image:
    image = Image.fromarray(ids, mode="P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    return image


def colour(ids: np.ndarray) -> Image.Image:
    table = np.array([(0, 0, 0), *COLOURS], np.uint8)
    return Image.fromarray(table[ids])


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(IDS),
        palette(IDS),
        Image.fromarray(IDS.astype(np.uint16)),
        Image.fromarray(IDS.astype(np.int32)),
        Image.merge("RGB", [Image.fromarray(IDS)] * 3),
        Image.merge("LA", [Image.fromarray(IDS), Image.fromarray(np.full_like(IDS, 255))]),
        colour(IDS),
        colour(IDS).convert("RGBA"),
    ],
    ids=["gray", "palette", "uint16", "int32", "gray-as-rgb", "alpha", "colour", "rgba"],
)
def test_one_mask_saved_in_many_ways_is_one_mask(tmp_path: Path, image: Image.Image) -> None:
    suffix = "m.tif" if image.mode == "I" else "m.png"
    found, _ = read_mask(save(tmp_path, image, suffix), [1, 2, 3], shape=(2, 3), colours=COLOURS)
    assert found.dtype == np.uint8
    assert np.array_equal(found, IDS)


@pytest.mark.parametrize("only", [1, 7])
@pytest.mark.parametrize("image", [Image.fromarray(np.uint8([[0, 255]])), Image.fromarray(np.array([[0, 255]]) > 0)])
def test_black_and_white_is_the_one_class_there_is(tmp_path: Path, image: Image.Image, only: int) -> None:
    assert read_mask(save(tmp_path, image), [only])[0].tolist() == [[0, only]]


def test_black_and_white_is_no_mask_of_several_classes(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match="255"):
        read_mask(save(tmp_path, Image.fromarray(np.uint8([[0, 255]]))), [1, 2])


def test_undecided_stays_undecided_in_our_own_masks(tmp_path: Path) -> None:
    found, _ = read_mask(save(tmp_path, Image.fromarray(np.uint8([[0, 1, 255]]))), [1], ignore=True)
    assert found.tolist() == [[0, 1, 255]]


def test_another_size_names_both(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match="3x2 pixels, its image 5x4"):
        read_mask(save(tmp_path, Image.fromarray(IDS)), [1, 2, 3], shape=(4, 5))


def test_colours_nobody_explained_are_refused_by_their_code(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match="#ff0000"):
        read_mask(save(tmp_path, colour(IDS)), [1, 2, 3])


def test_ids_above_255_are_not_cut(tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(np.array([[0, 300]], np.uint16)))
    with pytest.raises(MaskError, match="300"):
        read_mask(path, [44])
    with pytest.raises(MaskError, match="300"):
        read_mask(path)


def test_what_is_no_picture_is_refused_with_its_reason(tmp_path: Path) -> None:
    whole = save(tmp_path, Image.fromarray(np.tile(IDS, (50, 50)))).read_bytes()
    frames = [Image.fromarray(IDS), Image.fromarray(IDS)]
    frames[0].save(tmp_path / "frames.tif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.float32([[0.5]])).save(tmp_path / "half.tif")
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    reasons = {}
    for name in ("frames.tif", "half.tif", "cut.png", "empty.png", "text.png", "link.png", "folder.png", "pipe.png"):
        with pytest.raises(MaskError) as error:
            read_mask(tmp_path / name)
        reasons[name] = str(error.value)
    assert "frames" in reasons["frames.tif"]
    assert "fractions" in reasons["half.tif"]
    assert "corrupt" in reasons["cut.png"]
    assert "empty" in reasons["empty.png"]
    assert "not an image" in reasons["text.png"]
    assert "broken link" in reasons["link.png"]
    assert "folder" in reasons["folder.png"]
    assert "pipe" in reasons["pipe.png"]
