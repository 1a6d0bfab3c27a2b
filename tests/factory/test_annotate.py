"""Images that nobody drew get labels at their own size, the same ones every time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.factory.apply.annotate import Reading, Result, annotate
from cxrsynth.factory.apply.image import embed
from cxrsynth.recipe import parse
from cxrsynth.store import Store
from cxrsynth.weights import resolve
from tests.conftest import latent_body, tree
from tests.small_dataset import chest, make_real

QUICK = Reading(timesteps=(100,), noises=1)


@pytest.fixture
def label(tiny: Path) -> Any:
    def run(images: Path, out: Path, reading: Reading = QUICK, **more: Any) -> Result:
        return annotate(
            images, out, parse(latent_body(tiny)), resolve(str(tiny)), reading, device="cpu", workers=0, **more
        )

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A large gray JPEG in portrait, a 16-bit PNG, and a text that calls itself a picture."""
    root = tmp_path / "images"
    root.mkdir()
    image = Image.fromarray(chest(0, 128)[0])
    image.resize((900, 1200)).save(root / "phone.jpg", quality=80)
    deep = np.asarray(image.resize((150, 100))).astype(np.uint16) * 16
    Image.fromarray(deep).save(root / "deep.png")
    (root / "text.png").write_text("no picture")
    return root


def test_a_mask_has_the_size_of_its_image(label: Any, folder: Path, tmp_path: Path) -> None:
    result = label(folder, tmp_path / "out")
    store = Store(tmp_path / "out")
    sizes = {row["key"]: store.load_mask(row).shape for row in store.rows()}  # type: ignore[union-attr]
    assert sizes == {"phone": (1200, 900), "deep": (100, 150)}
    assert all(store.load_image(row).shape == sizes[row["key"]] for row in store.rows())
    assert [(row["file"], row["reason"]) for row in result.refused] == [("text.png", "not an image")]
    assert (tmp_path / "out/preview.png").exists()


def test_a_picture_that_a_phone_turned_is_labelled_upright(label: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Image.fromarray(np.rot90(chest(0)[0])).resize((80, 60)).save(tmp_path / "a.jpg", exif=exif)
    label(tmp_path / "a.jpg", tmp_path / "out")
    row = next(Store(tmp_path / "out").rows())
    assert Store(tmp_path / "out").load_image(row).shape == (80, 60)


def test_an_image_has_the_same_maps_alone_and_among_others(label: Any, folder: Path, tmp_path: Path) -> None:
    label(folder, tmp_path / "all")
    label(folder / "phone.jpg", tmp_path / "one")
    found = []
    for name in ("all", "one"):
        store = Store(tmp_path / name)
        row = next(row for row in store.rows() if row["key"] == "phone")
        found.append(store.load_maps(row)["maps"])  # type: ignore[index]
    np.testing.assert_array_equal(*found)


def test_an_ingested_dataset_keeps_its_patients_and_splits(label: Any, tmp_path: Path) -> None:
    real = make_real(tmp_path / "real")
    label(real, tmp_path / "out", splits=("train",))
    before, after = (list(Store(root).rows()) for root in (real, tmp_path / "out"))
    names = ("key", "patient", "split", "licence")
    assert [[row[name] for name in names] for row in after] == [[row[name] for name in names] for row in before]
    assert {row["mask_use"] for row in after} == {"model"}  # nobody takes these masks for human ones


def test_a_broken_run_goes_on_where_it_stopped_and_ends_the_same(label: Any, tmp_path: Path) -> None:
    real = make_real(tmp_path / "real")
    label(real, tmp_path / "whole")
    label(real, tmp_path / "broken")
    (tmp_path / "broken/shards/00000.json").unlink()
    label(real, tmp_path / "broken")
    assert tree(tmp_path / "broken") == tree(tmp_path / "whole")
    assert label(real, tmp_path / "whole").skipped == 3


def test_more_noise_gives_other_maps_and_needs_another_folder(label: Any, tmp_path: Path) -> None:
    real = make_real(tmp_path / "real")
    label(real, tmp_path / "out")
    with pytest.raises(MismatchError):
        label(real, tmp_path / "out", Reading(timesteps=(900,), noises=1))


def test_a_timestep_beyond_the_training_is_an_error_that_names_the_last(label: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="999"):
        label(make_real(tmp_path / "real"), tmp_path / "out", Reading(timesteps=(1000,)))


def test_what_was_annotated_can_be_labelled_again_by_another_chain(label: Any, tmp_path: Path) -> None:
    from cxrsynth.factory.relabel import plan_relabel, relabel

    label(make_real(tmp_path / "real"), tmp_path / "out")
    plan = plan_relabel(tmp_path / "out", tmp_path / "again", None, ["masks.refine=[]", "curate.checks=[]"])
    assert relabel(plan, lambda images: None).kept == 3
    assert json.loads((tmp_path / "again/classes.json").read_text())["classes"]


def test_a_few_images_are_spread_over_all_of_them(label: Any, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(6):
        Image.fromarray(chest(number)[0]).save(images / f"{number}.png")
    label(images, tmp_path / "out", most=3)
    assert [row["key"] for row in Store(tmp_path / "out").rows()] == ["0", "2", "4"]


def test_maps_of_a_part_lie_at_its_place_in_the_whole() -> None:
    maps = np.ones((1, 8, 8), np.float32)
    whole = embed(maps, (slice(25, 75), slice(0, 50)), (100, 100))
    assert whole.shape == (1, 16, 16)
    assert whole[0, 4:12, :8].min() == 1
    assert whole.sum() == 64
    assert embed(maps, (slice(0, 100), slice(0, 100)), (100, 100)) is maps
