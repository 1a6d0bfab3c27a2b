"""A decoder is fitted on a few human masks, says how many, and goes on after a break to the same bytes."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.factory.apply.annotate import Reading, annotate
from cxrsynth.recipe import parse
from cxrsynth.store import Store
from cxrsynth.train.tasks.mask_head.config import DecoderConfig
from cxrsynth.train.tasks.mask_head.training import train_decoder
from cxrsynth.weights import resolve
from tests.conftest import latent_body
from tests.train.chests import make

TINY = DecoderConfig(steps=4, variants=2, batch=2, width=16, warmup=1, timesteps=(10,), checkpoint_minutes=1e-6)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    return make(tmp_path / "films")


def test_the_file_says_on_how_many_films_it_was_fitted(films: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.safetensors"
    result = train_decoder(films, out, resolve(str(tiny)), TINY, films=3, device="cpu")
    with safe_open(out, "np") as file:
        told = json.loads(file.metadata()["cxrsynth"])
    assert told["films"] == result["films"] == len(told["training"]["keys"]) == 3
    assert told["model"] == resolve(str(tiny)).digest


def test_a_broken_training_goes_on_to_the_same_bytes(films: Path, tiny: Path, tmp_path: Path) -> None:
    def break_off(done: int, total: int, values: dict[str, float]) -> None:
        if done == total - 2:
            raise KeyboardInterrupt

    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    train_decoder(films, whole, resolve(str(tiny)), TINY, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train_decoder(films, broken, resolve(str(tiny)), TINY, device="cpu", on_step=break_off)
    seen: list[float] = []
    train_decoder(
        films, broken, resolve(str(tiny)), TINY, device="cpu", on_step=lambda done, total, v: seen.extend(v.values())
    )
    assert len(seen) == 2  # the first two steps were not taken again
    assert broken.read_bytes() == whole.read_bytes()


def test_another_number_of_films_does_not_go_on_with_the_old_checkpoint(
    films: Path, tiny: Path, tmp_path: Path
) -> None:
    train_decoder(films, tmp_path / "d.safetensors", resolve(str(tiny)), TINY, films=2, device="cpu")
    with pytest.raises(MismatchError):
        train_decoder(films, tmp_path / "d.safetensors", resolve(str(tiny)), TINY, films=3, device="cpu")


def test_masks_that_may_not_be_trained_on_are_not(tiny: Path, tmp_path: Path) -> None:
    films = make(tmp_path / "films", rows={i: {"mask_use": "benchmark"} for i in range(4)})
    with pytest.raises(UsageError, match="has 1 that fit"):
        train_decoder(films, tmp_path / "d.safetensors", resolve(str(tiny)), TINY, films=2, device="cpu")


def test_a_fitted_decoder_finds_the_organs_where_random_attention_does_not(
    tiny: Path, fitted: Path, films: Path, tmp_path: Path
) -> None:
    found = {}
    for name, chain in (("raw", []), ("decoder", [{"use": "decoder", "head": str(fitted)}])):
        recipe = parse(latent_body(tiny, masks={"refine": chain, "normalise": {"use": "joint", "presence": 0.0}}))
        reading = Reading(timesteps=(10,))
        annotate(films, tmp_path / name, recipe, resolve(str(tiny)), reading, device="cpu", splits=("val",), workers=0)
        store = Store(tmp_path / name)
        pairs = [
            (store.load_mask(row), Store(films).load_mask(true))
            for row in store.rows()
            for true in Store(films).rows()
            if true["key"] == row["key"]
        ]
        found[name] = np.mean([(ours == theirs).mean() for ours, theirs in pairs])
    assert found["decoder"] > 0.8 > found["raw"]
