"""A part of a dataset: what is left out is really out, and the rest is as it was."""

from pathlib import Path

import pytest

from cxrsynth.data.labelled import Source, gather
from cxrsynth.data.patients import DatasetImage
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.factory.subset import Part, take_part
from cxrsynth.factory.verify import verify
from cxrsynth.store import Store
from tests.conftest import cli, tree
from tests.train.chests import CLASSES, make

NAMES = tuple(CLASSES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("whole") / "data", splits="ttttttvs", rows={5: {"mask_use": "benchmark"}})


def labelled(root: Path) -> set[str]:
    store = Store(root)
    return {DatasetImage(store, row).row["patient"] for row in store.rows() if row["mask"] is not None}


def test_all_images_stay_and_only_the_masks_of_so_many_patients(whole: Path, tmp_path: Path) -> None:
    taken = take_part(whole, tmp_path / "few", Part(masks=2))
    assert (taken.images, taken.masks, taken.patients) == (8, 2, 2)
    assert len(list(Store(tmp_path / "few").rows())) == 8
    assert len(labelled(tmp_path / "few")) == 2


def test_they_are_the_patients_that_a_training_on_so_many_takes(whole: Path, tmp_path: Path) -> None:
    take_part(whole, tmp_path / "few", Part(masks=3))
    trained = {image.row["patient"] for image in gather(Source(whole, images=3), "train", NAMES, trainable_mask)}
    assert labelled(tmp_path / "few") == trained


def trainable_mask(row: dict[str, object]) -> bool:
    return row["mask_use"] == "train"


def test_fewer_patients_are_among_more(whole: Path, tmp_path: Path) -> None:
    for count in (2, 4):
        take_part(whole, tmp_path / str(count), Part(masks=count))
    assert labelled(tmp_path / "2") < labelled(tmp_path / "4")


def test_masks_of_other_splits_and_masks_to_measure_with_are_never_kept(whole: Path, tmp_path: Path) -> None:
    take_part(whole, tmp_path / "few", Part(masks=5))
    assert labelled(tmp_path / "few") == {f"p{i}" for i in range(5)}


def test_without_masks_nothing_says_that_there_were_any(whole: Path, tmp_path: Path) -> None:
    take_part(whole, tmp_path / "none", Part(masks=0))
    assert not list((tmp_path / "none").glob("masks/*"))
    assert all(row["mask_use"] == "" and row["mask_classes"] == [] for row in Store(tmp_path / "none").rows())


def test_pixels_masks_and_rows_are_the_old_ones(whole: Path, tmp_path: Path) -> None:
    take_part(whole, tmp_path / "copy", Part(split="val"))
    (old,) = [row for row in Store(whole).rows() if row["split"] == "val"]
    (new,) = Store(tmp_path / "copy").rows()
    moved = ("shard", "image", "mask")
    assert {k: v for k, v in new.items() if k not in moved} == {k: v for k, v in old.items() if k not in moved}
    for name in ("image", "mask"):
        assert (tmp_path / "copy" / new[name]).read_bytes() == (whole / old[name]).read_bytes()


def test_a_part_is_a_dataset_that_verify_accepts(whole: Path, tmp_path: Path) -> None:
    take_part(whole, tmp_path / "few", Part(masks=1))
    assert not list(verify(tmp_path / "few"))


def test_a_finished_part_is_not_written_again_and_another_one_not_over_it(whole: Path, tmp_path: Path) -> None:
    take_part(whole, tmp_path / "few", Part(masks=1))
    before = tree(tmp_path / "few")
    take_part(whole, tmp_path / "few", Part(masks=1))
    assert tree(tmp_path / "few") == before
    with pytest.raises(MismatchError, match="other images"):
        take_part(whole, tmp_path / "few", Part(masks=2))
    assert tree(tmp_path / "few") == before


def test_more_patients_than_there_are_is_an_error(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="9 patients were asked for"):
        take_part(whole, tmp_path / "few", Part(masks=9))
    assert not (tmp_path / "few").exists()


def test_the_command_says_what_it_took(whole: Path, tmp_path: Path) -> None:
    result = cli("subset", whole, "-o", tmp_path / "few", "--masks", 2, "--labelled")
    assert result.returncode == 0, result.stderr
    assert "images: 2" in result.stderr
    assert "patients: 2" in result.stderr
