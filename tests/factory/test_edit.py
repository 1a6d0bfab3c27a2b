"""``cxrsynth control``: a label map in, an image out; an image and a region in, the image with a finding there out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrsynth.errors import RecipeError, UsageError
from cxrsynth.factory import edit
from cxrsynth.factory.edit import Edited, Wish
from cxrsynth.recipe import Recipe, parse
from tests import anatomies
from tests.conftest import CLASSES, cli, latent_body
from tests.train import chests


@pytest.fixture
def recipe(tiny: Path, tmp_path: Path) -> Recipe:
    return parse(body(tiny, tmp_path))


def body(model: Path, folder: Path) -> dict[str, Any]:
    net = anatomies.network(folder / "net.safetensors")
    return latent_body(model, classes=CLASSES, control={"anatomy": {"network": str(net)}})


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """An image of 64 x 64 pixels and its label map."""
    image, mask = tmp_path / "image.png", tmp_path / "mask.png"
    Image.fromarray(chests.chest(0)[0]).save(image)
    Image.fromarray(chests.chest(0)[1]).save(mask)
    return image, mask


def make(source: Path, recipe: Recipe, wishes: list[Wish], mask: Path | None = None) -> Edited:
    return edit.edit(source, recipe, Path(recipe.model), wishes, mask, "chest", 0, "cpu")


def test_a_label_map_becomes_an_image_of_the_models_size(recipe: Recipe, pair: tuple[Path, Path]) -> None:
    made = make(pair[1], recipe, [])
    assert made.after.shape == (64, 64)
    assert made.before is None
    assert not made.findings


def test_an_image_changes_in_the_region_and_nowhere_far_from_it(recipe: Recipe, pair: tuple[Path, Path]) -> None:
    made = make(pair[0], recipe, [Wish("opacity", "left lung", "large")], pair[1])
    assert made.before is not None
    changed = made.before != made.after
    assert changed[made.findings["opacity"]].mean() > 0.5
    assert not changed[:, :24].any()
    assert made.strip.width > made.strip.height


def test_an_image_of_a_label_map_with_a_finding_shows_the_image_without(
    recipe: Recipe, pair: tuple[Path, Path]
) -> None:
    made = make(pair[1], recipe, [Wish("opacity", "left lung", method="inpaint")])
    assert made.before is not None
    np.testing.assert_array_equal(made.before[:, :24], made.after[:, :24])


def test_without_a_label_map_attention_finds_the_anatomy(recipe: Recipe, pair: tuple[Path, Path]) -> None:
    made = make(pair[0], recipe, [Wish("opacity", (0.3, 0.3, 0.7, 0.7), method="inpaint")])
    assert made.mask.any()


@pytest.mark.parametrize(
    ("wishes", "mask", "what"),
    [
        ([], None, "nothing to put in"),
        ([Wish("opacity", "left knee")], "mask.png", "names no place"),
        ([Wish("opacity", (0.0, 0.0, 0.02, 0.02))], "mask.png", "outside the body"),
        ([Wish("opacity", "left lung", "huge")], "mask.png", "severity: no severity 'huge'"),
        ([Wish("fracture", "left lung", method="simulate")], "mask.png", "knows no 'fracture'"),
        ([Wish("opacity", "heart")], "mask.png", "outside the lungs"),
        ([Wish("effusion", "left lung"), Wish("pneumothorax", "left lung")], "mask.png", "exclude each other"),
        ([Wish("opacity", "left lung")], "large.png", "128 x 128 pixels, the image 64 x 64"),
        ([Wish("opacity", "left lung")], "ids.png", "unknown ids: 9"),
        ([Wish("opacity", "left lung")], "empty.png", "is empty"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_why(
    wishes: list[Wish], mask: str | None, what: str, recipe: Recipe, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    Image.fromarray(anatomies.chest(size=128)).save(tmp_path / "large.png")
    Image.fromarray(np.where(anatomies.chest() == 3, 9, anatomies.chest()).astype(np.uint8)).save(tmp_path / "ids.png")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "empty.png")
    with pytest.raises((UsageError, RecipeError), match=what) as caught:
        make(pair[0], recipe, wishes, None if mask is None else tmp_path / mask)
    assert caught.value.hint


def test_a_label_map_of_other_proportions_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    Image.fromarray(anatomies.chest()[:48]).save(tmp_path / "flat.png")
    with pytest.raises(UsageError, match="other proportions"):
        make(tmp_path / "flat.png", recipe, [])


def test_boxes_are_four_numbers() -> None:
    assert edit.box("0.1,0.2,0.3,0.4") == (0.1, 0.2, 0.3, 0.4)
    assert edit.box("left lower zone") == "left lower zone"
    with pytest.raises(UsageError, match="four numbers"):
        edit.box("0.1,0.2")


def test_the_command_writes_image_strip_and_mask(
    tiny: Path, pair: tuple[Path, Path], write_recipe: Any, tmp_path: Path
) -> None:
    path = write_recipe(body(tiny, tmp_path))
    finding = ["--finding", "opacity", "--region", "left lower zone"]
    done = cli(
        "control",
        "--json",
        pair[0],
        "--mask",
        pair[1],
        *finding,
        "-o",
        tmp_path / "out.png",
        "-p",
        path,
        "--device",
        "cpu",
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["finding_pixels"] > 0
    assert all(Image.open(said[name]).size[0] >= 64 for name in ("image", "strip", "mask"))


def test_a_finding_without_a_region_is_said_before_a_model_is_loaded(pair: tuple[Path, Path]) -> None:
    done = cli("control", "--json", pair[0], "--finding", "opacity")
    assert done.returncode == 2
    assert "one --region for each --finding" in done.stderr
