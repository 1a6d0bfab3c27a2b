"""A mask head is fitted on a few reference masks, says how many, and goes on after a break to the same bytes."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.factory.apply.annotate import Reading, annotate
from cxrsynth.recipe import parse
from cxrsynth.store import Store
from cxrsynth.train.tasks.mask_head.config import MaskHeadConfig
from cxrsynth.train.tasks.mask_head.training import train_mask_head
from cxrsynth.weights import resolve
from tests.conftest import latent_body
from tests.train.chests import make

TINY = MaskHeadConfig(updates=4, variants=2, batch=2, width=16, warmup=1, timesteps=(10,), checkpoint_minutes=1e-6)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make(tmp_path / "images")


def test_the_file_says_on_how_many_images_it_was_fitted(images: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.safetensors"
    result = train_mask_head(images, out, resolve(str(tiny)), TINY, images=3, device="cpu")
    with safe_open(out, "np") as file:
        told = json.loads(file.metadata()["cxrsynth"])
    assert told["images"] == result["images"] == len(told["training"]["keys"]) == 3
    assert told["model"] == resolve(str(tiny)).digest


def test_a_broken_training_goes_on_to_the_same_bytes(images: Path, tiny: Path, tmp_path: Path) -> None:
    def break_off(done: int, total: int, values: dict[str, float]) -> None:
        if done == total - 2:
            raise KeyboardInterrupt

    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    train_mask_head(images, whole, resolve(str(tiny)), TINY, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train_mask_head(images, broken, resolve(str(tiny)), TINY, device="cpu", on_step=break_off)
    seen: list[float] = []
    train_mask_head(
        images, broken, resolve(str(tiny)), TINY, device="cpu", on_step=lambda done, total, v: seen.extend(v.values())
    )
    assert len(seen) == 2  # the first two steps were not taken again
    assert broken.read_bytes() == whole.read_bytes()


def test_another_number_of_images_does_not_go_on_with_the_old_checkpoint(
    images: Path, tiny: Path, tmp_path: Path
) -> None:
    train_mask_head(images, tmp_path / "d.safetensors", resolve(str(tiny)), TINY, images=2, device="cpu")
    with pytest.raises(MismatchError):
        train_mask_head(images, tmp_path / "d.safetensors", resolve(str(tiny)), TINY, images=3, device="cpu")


def test_masks_that_may_not_be_trained_on_are_not(tiny: Path, tmp_path: Path) -> None:
    images = make(tmp_path / "images", rows={i: {"mask_use": "benchmark"} for i in range(4)})
    with pytest.raises(UsageError, match="has 1 that fit"):
        train_mask_head(images, tmp_path / "d.safetensors", resolve(str(tiny)), TINY, images=2, device="cpu")


def test_a_fitted_mask_head_finds_the_organs_where_random_attention_does_not(
    tiny: Path, fitted: Path, images: Path, tmp_path: Path
) -> None:
    found = {}
    for name, chain in (("raw", []), ("mask_head", [{"use": "mask_head", "head": str(fitted)}])):
        recipe = parse(latent_body(tiny, masks={"refine": chain, "normalise": {"use": "joint", "presence": 0.0}}))
        reading = Reading(timesteps=(10,))
        annotate(images, tmp_path / name, recipe, resolve(str(tiny)), reading, device="cpu", splits=("val",), workers=0)
        store = Store(tmp_path / name)
        pairs = [
            (store.load_mask(row), Store(images).load_mask(true))
            for row in store.rows()
            for true in Store(images).rows()
            if true["key"] == row["key"]
        ]
        found[name] = np.mean([(ours == theirs).mean() for ours, theirs in pairs])
    assert found["mask_head"] > 0.8 > found["raw"]
