"""What is refused before a segmentation network is trained, and with which words."""

import json
from pathlib import Path

import numpy as np
import pytest

from cxrsynth.data.labelled import Source, choose_classes, gather
from cxrsynth.data.patients import check_patients
from cxrsynth.encoding import png
from cxrsynth.errors import MismatchError, UsageError
from tests.train.chests import make

ALL = ("right_lung", "left_lung", "heart")


def test_classes_match_by_name_whatever_their_ids(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b", classes={"heart": 7, "left_lung": 1, "right_lung": 4})
    classes = choose_classes([tmp_path / "a", tmp_path / "b"])
    assert classes == ALL
    one, other = (gather(Source(tmp_path / name), "train", classes)[0].mask() for name in "ab")
    assert np.array_equal(one, other)


def test_datasets_with_different_classes_need_a_choice(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b", classes={"right_lung": 1, "left_lung": 2})
    with pytest.raises(UsageError) as error:
        choose_classes([tmp_path / "a", tmp_path / "b"])
    assert "--classes right_lung,left_lung" in error.value.hint


def test_a_class_that_one_dataset_never_looked_at_is_not_its_background(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b", classes={"right_lung": 1, "left_lung": 2})
    with pytest.raises(UsageError, match="b does not label heart"):
        choose_classes([tmp_path / "a", tmp_path / "b"], ALL)


def test_images_whose_mask_lacks_a_class_are_left_out(tmp_path: Path) -> None:
    root = make(tmp_path / "a", rows={0: {"mask_classes": ["right_lung", "left_lung"]}})
    assert len(gather(Source(root), "train", ALL)) == 4
    assert len(gather(Source(root), "train", ["left_lung"])) == 5


def test_a_class_left_out_becomes_background(tmp_path: Path) -> None:
    mask = gather(Source(make(tmp_path / "a")), "train", ["heart"])[0].mask()
    assert set(np.unique(mask)) == {0, 1}


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    root = make(tmp_path / "a")
    rewrite(root, "masks/00000/001.png", png(np.zeros((32, 64), np.uint8)))
    with pytest.raises(MismatchError, match=r"masks/00000/001\.png has 64x32 pixels, its image 64x64"):
        gather(Source(root), "train", ALL)


def test_a_mask_with_an_unknown_id_is_named(tmp_path: Path) -> None:
    root = make(tmp_path / "a")
    rewrite(root, "masks/00000/001.png", png(np.full((64, 64), 9, np.uint8)))
    with pytest.raises(MismatchError, match=r"masks/00000/001\.png has values \[9\]"):
        gather(Source(root), "train", ALL)


def test_an_unfinished_shard_is_named(tmp_path: Path) -> None:
    root = make(tmp_path / "a")
    (root / "shards/00001.json").unlink()
    with pytest.raises(MismatchError, match="images/00001 belongs to an unfinished shard"):
        gather(Source(root), "train", ALL)


def test_fewer_images_than_the_recipe_asks_for_are_unfinished(tmp_path: Path) -> None:
    root = make(tmp_path / "a")
    (root / "recipe.yaml").write_text("count: 20")
    with pytest.raises(MismatchError, match="8 of 20 images"):
        gather(Source(root), "train", ALL)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    root = make(tmp_path / "a")
    (root / "images/00000/002.png").write_bytes(b"")
    with pytest.raises(MismatchError, match=r"images/00000/002\.png is not what the receipt"):
        gather(Source(root), "train", ALL)


def test_an_empty_split_is_named(tmp_path: Path) -> None:
    root = make(tmp_path / "a", splits="tttt")
    with pytest.raises(UsageError, match="no image in split 'val'"):
        gather(Source(root), "val", ALL)


def test_images_without_masks_are_said_to_lack_them(tmp_path: Path) -> None:
    root = make(tmp_path / "a", rows={i: {"mask_classes": []} for i in range(8)})
    with pytest.raises(UsageError, match="usable mask of right_lung"):
        gather(Source(root), "train", ALL)


def test_a_patient_in_two_splits_is_named_with_both_images(tmp_path: Path) -> None:
    root = make(tmp_path / "a", rows={5: {"patient": "p1"}})
    with pytest.raises(MismatchError) as error:
        check_patients(gather(Source(root), "train", ALL), gather(Source(root), "val", ALL))
    assert "clinic/p1" in error.value.message
    assert "001.png" in error.value.message
    assert "005.png" in error.value.message


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a cxrsynth dataset"):
        choose_classes([tmp_path])


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("out/a", Source(Path("out/a"))),
        ("out/a:0.5", Source(Path("out/a"), 0.5)),
        ("out/a:2:16", Source(Path("out/a"), 2.0, 16)),
        ("C:/data", Source(Path("C:/data"))),
    ],
)
def test_a_dataset_is_written_as_path_weight_images(text: str, source: Source) -> None:
    assert Source.parse(text) == source


@pytest.mark.parametrize("text", ["a:0", "a:-1", "a:1:2.5"])
def test_a_wrong_weight_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="PATH:WEIGHT:IMAGES"):
        Source.parse(text)


def rewrite(root: Path, relative: str, data: bytes) -> None:
    """Replace a file together with its entry in the receipt."""
    (root / relative).write_bytes(data)
    for path in (root / "shards").glob("*.json"):
        body = json.loads(path.read_text())
        if relative in body["files"]:
            body["files"][relative]["size"] = len(data)
            path.write_text(json.dumps(body))
