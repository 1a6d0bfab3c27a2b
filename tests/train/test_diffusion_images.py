"""Broken images, missing words and unfit bases are said before anything is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cxrsynth.data.latents import Draws, Latents
from cxrsynth.data.material import Material
from cxrsynth.data.material import gather as gather_all
from cxrsynth.data.square import Square
from cxrsynth.encoding import lines
from cxrsynth.errors import MissingError, RecipeError, UsageError
from cxrsynth.nets.base import Base, load_base
from cxrsynth.store import Store
from cxrsynth.train.tasks.diffusion.config import DiffusionRecipe
from cxrsynth.weights import resolve
from tests.tiny import build
from tests.train.images import make
from tests.train.test_diffusion import adapt, domain_encoder, recipe

Edit = Callable[[list[dict[str, Any]]], None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("base") / "sd", gray=False)


def load(folder: Path, config: DiffusionRecipe) -> Base:
    return load_base(resolve(str(folder)), config.what, config.noise, config.images.size, config.words.tokens)


def gather(data: Path, config: DiffusionRecipe, tokenizer: Any) -> Material:
    training = config.training
    held_out, seed = training.validation_images, training.seed
    return gather_all([data], config.images, config.words, tokenizer, held_out=held_out, seed=seed)


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    return load(base, recipe()).tokenizer


def images(root: Path, edit: Edit = lambda rows: None) -> Path:
    """The small dataset, its rows changed."""
    make(root)
    rows = list(Store(root).rows())
    edit(rows)
    (root / "meta/00000.jsonl").write_bytes(lines(rows))
    return root


def without_words(root: Path) -> Path:
    return images(root, lambda rows: rows[1].update(prompt=" "))


def without_picture(root: Path) -> Path:
    images(root)
    (root / "images/00000/001.png").unlink()
    return root


def unreadable(root: Path) -> Path:
    images(root)
    path = root / "images/00000/001.png"
    path.write_bytes(path.read_bytes()[:200])
    return root


BROKEN = [
    (without_words, "image without a caption"),
    (without_picture, "caption without an image"),
    (unreadable, "image cannot be read"),
]


@pytest.mark.parametrize(("damage", "reason"), BROKEN)
def test_a_broken_image_is_refused_by_name_and_nothing_is_written(
    damage: Callable[[Path], Path], reason: str, base: Path, tmp_path: Path
) -> None:
    data = damage(tmp_path / "images")
    with pytest.raises(UsageError, match=f"001: {reason}") as error:
        adapt(data, tmp_path / "run", resolve(str(base)), recipe(), "cpu")
    assert "images.broken=skip" in error.value.hint
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("damage", "reason"), BROKEN)
def test_a_broken_image_can_be_left_out_and_is_counted(
    damage: Callable[[Path], Path], reason: str, tokenizer: Any, tmp_path: Path
) -> None:
    found = gather(damage(tmp_path), recipe(images={"broken": "skip"}), tokenizer)
    assert found.left_out == {reason: 1}
    assert [image.row["key"] for image in found.train] == ["000", "002", "003", "004", "005"]


def test_words_that_an_encoder_does_not_know_are_refused(base: Path, tmp_path: Path) -> None:
    def strange(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["prompt"] = "heart"
        rows[2]["prompt"] = "xyz qqq"

    what = {"encoder": str(domain_encoder(tmp_path / "bert"))}
    with pytest.raises(UsageError, match="002: words of which the encoder knows none"):
        adapt(images(tmp_path / "images", strange), tmp_path / "run", resolve(str(base)), recipe(what=what), "cpu")


def test_words_over_the_limit_are_counted_or_refused(tokenizer: Any, tmp_path: Path) -> None:
    long = "heart " * 90
    data = images(tmp_path, lambda rows: rows[0].update(prompt=long))
    cut = gather(data, recipe(), tokenizer).cut
    assert (cut.captions, cut.cut, cut.limit) == (6, 1, 77)
    assert cut.tokens == len(tokenizer(long).input_ids) - 77
    with pytest.raises(RecipeError, match="1 of 6 captions are over 77 tokens"):
        gather(data, recipe(words={"long": "refuse"}), tokenizer)


def test_images_are_chosen_by_words_of_a_column(tokenizer: Any, tmp_path: Path) -> None:
    def find(rows: list[dict[str, Any]]) -> None:
        rows[0]["findings"], rows[1]["findings"], rows[2]["findings"] = "Pneumonia|edema", "pneumonias", "normal"

    found = gather(images(tmp_path, find), recipe(images={"only": {"findings": ["pneumonia", "normal"]}}), tokenizer)
    assert [image.row["key"] for image in found.train] == ["000", "002"]


def test_weights_decide_how_often_an_image_is_drawn(tokenizer: Any, tmp_path: Path) -> None:
    def weigh(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["wanted"] = 3 if row["key"] == "001" else 1

    found = gather(images(tmp_path, weigh), recipe(images={"weight": "wanted", "shares": {"b": 1.0}}), tokenizer)
    count = len(found.train)
    rows, none = [image.row for image in found.train], np.zeros(0, int)
    empty = torch.zeros(0, 3)
    latents = Latents(torch.zeros(count, 4, 2, 2), np.arange(count), rows, none, empty, empty)
    places, _ = Draws(latents, {"b": 1.0}, found.weight)(np.random.default_rng(0), 5000, 0)
    shares = {found.train[i].row["key"]: float((places == i).mean()) for i in range(count)}
    assert shares == pytest.approx({"001": 0.6, "003": 0.2, "005": 0.2}, abs=0.03)


@pytest.mark.parametrize("value", ["", "many", -1, None])
def test_an_image_without_a_usable_weight_is_named(value: object, tokenizer: Any, tmp_path: Path) -> None:
    data = images(tmp_path, lambda rows: [row.update(wanted=1) for row in rows] and rows[3].update(wanted=value))
    with pytest.raises(RecipeError, match="image 003"):
        gather(data, recipe(images={"weight": "wanted"}), tokenizer)


def test_padding_gives_an_image_its_aspect_back_and_moves_its_mask_along() -> None:
    image, mask = np.full((64, 64), 200, np.uint8), np.ones((64, 64), np.uint8)
    padded, labels = Square("pad", 32)({"aspect": 0.5}, image, mask)
    assert labels is not None
    assert padded.shape == labels.shape == (32, 32)
    assert (padded[:, 8:24] == 200).all()
    assert padded[:, :8].max() == padded[:, 24:].max() == 0
    assert np.array_equal(labels > 0, padded > 0)
    squashed, _ = Square("squash", 32)({"aspect": 0.5}, image, None)
    assert (squashed == 200).all()


def change(folder: Path, part: str, **values: Any) -> None:
    file = folder / part / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("unet", {"in_channels": 9}, "reads 9 and gives 4 channels"),
        ("vae", {"latent_channels": 16}, "its autoencoder has 16"),
        ("vae", {"in_channels": 4}, "has 4 colours"),
        ("unet", {"addition_embed_type": "text_time"}, "more than a text"),
        ("unet", {"cross_attention_dim": 64}, "gives 32 numbers a token, its UNet reads 64"),
        ("unet", {"_class_name": "Transformer2DModel"}, "Transformer2DModel"),
    ],
)
def test_a_base_that_cannot_be_fed_is_refused(
    part: str, values: dict[str, Any], message: str, base: Path, tmp_path: Path
) -> None:
    shutil.copytree(base, tmp_path / "sd")
    change(tmp_path / "sd", part, **values)
    with pytest.raises(MissingError, match=message):
        load(tmp_path / "sd", recipe())


def test_a_base_without_a_text_encoder_is_refused(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "sd")
    shutil.rmtree(tmp_path / "sd/text_encoder")
    with pytest.raises(MissingError, match="lacks its text_encoder"):
        resolve(str(tmp_path / "sd"))


def test_zero_snr_needs_a_model_that_predicts_velocities(base: Path) -> None:
    with pytest.raises(RecipeError, match="zero terminal SNR") as error:
        load(base, recipe(noise={"zero_snr": True}))
    assert "noise.prediction=v_prediction" in error.value.hint


def test_a_size_that_the_grids_do_not_divide_is_refused(base: Path) -> None:
    with pytest.raises(RecipeError, match="multiple of 8"):
        load(base, recipe(images={"size": 60}))


def test_layers_that_are_not_there_get_no_lora(base: Path, tmp_path: Path) -> None:
    what = {"unet": "lora", "targets": ["no_such_layer"]}
    with pytest.raises(RecipeError, match="no layer called no_such_layer"):
        adapt(images(tmp_path / "images"), tmp_path / "run", resolve(str(base)), recipe(what=what), "cpu")
