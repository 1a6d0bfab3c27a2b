"""`import cxrsynth` does what the commands do, with files, arrays and images, and keeps nothing in between."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cxrsynth
from cxrsynth.api.annotation import place
from cxrsynth.errors import UsageError
from cxrsynth.factory.plan import make_plan
from cxrsynth.factory.run import run
from cxrsynth.recipe import parse
from cxrsynth.store import Store
from tests.conftest import phantom_body
from tests.data import dicoms
from tests.small_dataset import make_real

FAST: dict[str, Any] = {"masks.refine": [], "attention.timesteps": [50]}


def small() -> Any:
    return parse(phantom_body(masks={"refine": []}))


def test_generate_gives_the_images_of_the_command(tmp_path: Path) -> None:
    run(make_plan(small(), tmp_path / "made"))
    rows = list(Store(tmp_path / "made").rows())
    told: list[tuple[float, float]] = []
    images = cxrsynth.generate(small(), n=3, progress=lambda done, total: told.append((done, total)))
    assert [image.key for image in images] == [row["key"] for row in rows[:3]]
    for image, row in zip(images, rows, strict=False):
        assert np.array_equal(image.image, Store(tmp_path / "made").load_image(row))
        assert np.array_equal(image.mask, Store(tmp_path / "made").load_mask(row))
        assert (image.prompt, image.scores, image.split) == (row["prompt"], row["scores"], row["split"])
    assert told[-1] == (3, 3)


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import cxrsynth\nprint(len(cxrsynth.generate('phantom', n=1, settings={'masks.refine': []})))\n")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_generate_warns_where_curation_leaves_fewer() -> None:
    settings = {"curate.checks": [{"use": "area", "ranges": {"heart": [0.8, 0.9]}}], "curate.attempts": 1}
    with pytest.warns(UserWarning, match="2 of 2 images were rejected"):
        assert cxrsynth.generate(small(), n=2, settings=settings) == []


def test_the_functions_stay_functions_when_their_rooms_are_imported() -> None:
    import cxrsynth.export.folder
    import cxrsynth.generate.phantom

    assert not hasattr(cxrsynth.generate, "phantom")
    assert callable(cxrsynth.generate)
    assert callable(cxrsynth.export)


def test_the_interface_is_listed_and_typed() -> None:
    assert set(cxrsynth.__all__) <= set(dir(cxrsynth))
    assert (Path(cxrsynth.__file__).parent / "py.typed").exists()
    with pytest.raises(AttributeError, match="no attribute 'generat'"):
        cxrsynth.generat  # type: ignore[attr-defined]  # noqa: B018


def test_annotate_takes_files_arrays_and_images_alike(tiny: Path, tmp_path: Path) -> None:
    chest = cxrsynth.generate(small(), n=1)[0].image
    Image.fromarray(chest).save(tmp_path / "chest.png")
    # The tone of real images is stretched to their own range, however deep they are.
    given = [tmp_path / "chest.png", chest, chest.astype(np.uint16) * 257, Image.fromarray(chest)]
    found = cxrsynth.annotate(given, small(), model=str(tiny), settings={**FAST, "generator": "latent"})
    assert len(found) == 4
    assert all(np.array_equal(one.image, found[0].image) for one in found)
    assert all(np.array_equal(one.mask, found[0].mask) for one in found)
    assert found[0].mask is not None
    assert found[0].mask.shape == chest.shape


def test_a_dicom_file_is_annotated_as_it_is_meant_to_be_seen(tmp_path: Path) -> None:
    chest = cxrsynth.generate(small(), n=1)[0].image
    inverse = 4095 - chest.astype(np.uint16) * 16
    dicoms.make(tmp_path / "IM1", inverse, PhotometricInterpretation="MONOCHROME1")
    assert place(tmp_path / "IM1", tmp_path, 7) == "000007"
    seen = np.asarray(Image.open(tmp_path / "000007.png"))
    assert np.corrcoef(seen.ravel(), chest.ravel())[0, 1] > 0.9999
    dicoms.make(tmp_path / "IM2", chest, bits=8, ViewPosition="LL")
    with pytest.raises(UsageError, match="lateral"):
        place(tmp_path / "IM2", tmp_path, 8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("nowhere.png", "no file nowhere.png"),
        (np.zeros((8, 8, 3), np.uint8), "no gray image"),
        (np.full((64, 64), 7.0), "no gray image"),
        (42, "int is no image"),
        (np.zeros((64, 64), np.uint8), "single tone"),
    ],
)
def test_annotate_says_which_image_is_wrong_and_why(wrong: Any, message: str, tiny: Path) -> None:
    with pytest.raises(UsageError, match=message):
        cxrsynth.annotate(wrong, small(), model=str(tiny), settings={**FAST, "generator": "latent"})


def test_a_dataset_is_a_sequence_with_splits(plain_data: Path) -> None:
    data = cxrsynth.Dataset(plain_data)
    assert (len(data), data.splits) == (6, {"train": 2, "val": 3, "test": 1})
    assert len(data.split("validation")) == 3
    assert [image.split for image in data.split("test")] == ["test"]
    assert len(data[1:3]) == 2
    assert data[-1].key == "000000005"
    with pytest.raises(UsageError, match="no split 'dev'") as caught:
        data.split("dev")
    assert "train, val, test" in caught.value.hint


def test_layers_of_a_dataset_are_masks_by_name(layered_data: Path) -> None:
    image = cxrsynth.Dataset(layered_data)[0]
    assert (image.region("opacity") & image.region("left_lung")).any()
    assert image.overlay().size[0] > 100
    with pytest.raises(UsageError, match="spleen"):
        image.region("spleen")


def test_the_torch_view_goes_through_a_loader(plain_data: Path) -> None:
    from torch.utils.data import DataLoader

    batch = next(iter(DataLoader(cxrsynth.Dataset(plain_data).split("train").torch(), batch_size=2)))
    assert batch["image"].shape == (2, 1, 128, 128)
    assert batch["mask"].shape == (2, 128, 128)


def test_the_hugging_face_view_decodes_images_and_masks(plain_data: Path) -> None:
    data = cxrsynth.Dataset(plain_data)
    found = data.hf()
    assert {name: len(part) for name, part in found.items()} == {"train": 2, "validation": 3, "test": 1}
    assert np.array_equal(np.asarray(found["test"][0]["mask"]), data.split("test")[0].mask)
    assert found["test"][0]["classes"] == data.classes
    assert len(data.split("validation").hf()) == 3


def test_the_monai_view_loads_images_and_labels(plain_data: Path) -> None:
    data = cxrsynth.Dataset(plain_data)
    item = data.monai()[0]
    assert np.array_equal(item["image"][0].numpy().T, data[0].image)
    assert np.array_equal(item["label"][0].numpy().T, data[0].mask)


def test_images_without_masks_are_in_every_view(tmp_path: Path) -> None:
    data = cxrsynth.Dataset(make_real(tmp_path / "data"))
    assert [image.mask is None for image in data] == [False, False, True]
    assert ["label" in item for item in data.monai()] == [True, True, False]
    assert [bool(item["labelled"]) for item in data.torch()] == [True, True, False]  # type: ignore[attr-defined]


def test_export_takes_a_dataset(plain_data: Path, tmp_path: Path) -> None:
    found = cxrsynth.export(cxrsynth.Dataset(plain_data), "yolo", tmp_path / "yolo", classes=["heart"])
    assert found.images == {"train": 2, "val": 3, "test": 1}
    assert (tmp_path / "yolo/data.yaml").exists()
