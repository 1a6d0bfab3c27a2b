"""Label maps are found, checked, and told apart by their content."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrsynth.domain.anatomy import CLASSES, cardiothoracic
from cxrsynth.domain.atlas import bundled, open_atlas, pack
from cxrsynth.errors import CxrError, MissingError, UsageError
from tests import anatomies
from tests.train import chests


def test_the_bundled_label_maps_are_whole_and_say_their_licence() -> None:
    assert bundled() == ["wingspan"]
    atlas = open_atlas("wingspan")
    assert len(atlas.keys) == 64
    assert "MIT" in atlas.licence
    assert set(np.unique(atlas.load(atlas.keys[0]))) == {0, 1, 2, 3}


def test_a_folder_that_shrinks_or_changes_is_another_atlas(tmp_path: Path) -> None:
    folder = anatomies.folder(tmp_path / "maps")
    whole = open_atlas(str(folder)).digest
    (folder / "2.png").unlink()
    fewer = open_atlas(str(folder)).digest
    Image.fromarray(anatomies.chest(0.6)).save(folder / "1.png")
    assert len({whole, fewer, open_atlas(str(folder)).digest}) == 3


def test_packed_maps_come_back_as_they_were(tmp_path: Path) -> None:
    maps = {"a": anatomies.chest(0.4), "b": anatomies.chest(0.5)}
    (tmp_path / "two.npz").write_bytes(pack(maps, "mine"))
    atlas = open_atlas(str(tmp_path / "two.npz"))
    assert (atlas.keys, atlas.licence) == (("a", "b"), "mine")
    np.testing.assert_array_equal(atlas.load("b"), maps["b"])
    assert pack(maps, "mine") == (tmp_path / "two.npz").read_bytes()


def test_of_a_dataset_only_open_training_images_with_all_classes_are_taken(tmp_path: Path) -> None:
    changed = {1: {"mask_use": "benchmark"}, 2: {"use": "test"}, 3: {"mask_classes": ["right_lung"]}}
    root = chests.make(tmp_path / "data", splits="ttttvs", rows=changed)
    assert open_atlas(str(root)).keys == ("000",)
    assert len(open_atlas(str(root), ()).keys) == 3


def test_ids_of_a_dataset_become_those_of_every_atlas(tmp_path: Path) -> None:
    root = chests.make(tmp_path / "data", classes={"heart": 9, "right_lung": 5, "left_lung": 7}, splits="t")
    mask = open_atlas(str(root)).load("000")
    np.testing.assert_array_equal(mask, chests.chest(0)[1])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda mask: np.where(mask == 3, 7, mask), "unknown ids: 7"),
        (lambda mask: np.zeros_like(mask), "is empty"),
        (lambda mask: np.where(mask == 3, 0, mask), "no heart"),
        (lambda mask: np.stack([mask, 0 * mask, mask], axis=-1), "colour"),
    ],
)
def test_a_label_map_that_cannot_be_imposed_says_why(change: object, what: str, tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    Image.fromarray(change(anatomies.chest()).astype(np.uint8)).save(tmp_path / "maps" / "a.png")  # type: ignore[operator]
    with pytest.raises(UsageError, match=what) as caught:
        open_atlas(str(tmp_path / "maps"))
    assert caught.value.hint


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_no_label_maps_are_an_error_that_says_what_would_do(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CxrError) as caught:
        open_atlas(str(tmp_path / name))
    assert isinstance(caught.value, MissingError if name == "nowhere" else UsageError)
    assert "folder" in caught.value.hint


def test_maps_near_a_ratio_are_near_and_there_is_always_one() -> None:
    atlas = open_atlas("wingspan")
    near = atlas.near(0.5, 1.1)
    assert 1 < len(near) < 64
    assert all(0.5 / 1.1 <= cardiothoracic(atlas.load(key)) <= 0.5 * 1.1 for key in near)
    assert len(atlas.near(0.05, 1.1)) == 1


def test_the_ratio_is_that_of_the_widest_heart_and_chest() -> None:
    assert cardiothoracic(anatomies.chest(0.5)) == pytest.approx(0.5, abs=0.02)
    mask = anatomies.chest()
    assert np.isnan(cardiothoracic(np.where(mask == CLASSES["heart"], 0, mask)))
