"""Which levels of attention to read is measured on images with reference masks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cxrsynth.cli import app
from cxrsynth.errors import UsageError
from cxrsynth.factory.apply.levels import chosen_rows, measure
from cxrsynth.recipe import parse
from tests.conftest import latent_body
from tests.train.chests import chest, make


class Seeing:
    """A reader whose level 2 sees every class as it is and whose level 1 sees nothing."""

    size = (64, 64)

    def levels(self, images: np.ndarray, seeds: list[int], timesteps: tuple[int, ...]) -> dict[int, torch.Tensor]:
        truth = [next(mask for image, mask in map(chest, range(8)) if (image == one).all()) for one in images]
        seen = torch.from_numpy(np.stack([[mask == k for k in (1, 2, 3)] for mask in truth]).astype(np.float32))
        return {1: torch.ones(len(images), 3, 64, 64), 2: seen}


def test_the_level_that_sees_is_found(tiny: Path, tmp_path: Path) -> None:
    data, recipe = make(tmp_path / "data"), parse(latent_body(tiny))
    chosen = chosen_rows(data, recipe, "train", most=3)
    found = measure(Seeing(), recipe, data, chosen)  # type: ignore[arg-type]
    assert 2 in found[0].levels
    assert {one.levels for one in found} == {(1,), (2,), (1, 2)}
    alone = {one.levels: one for one in found}
    assert alone[(2,)].mean > alone[(1,)].mean + 0.1
    assert [len(values) for values in found[0].dice.values()] == [3, 3, 3]


def test_images_without_reference_masks_are_refused(tiny: Path, tmp_path: Path) -> None:
    data = make(tmp_path / "data", rows={i: {"mask_use": "model"} for i in range(8)})
    with pytest.raises(UsageError, match="reference masks of heart, left_lung, right_lung are needed"):
        chosen_rows(data, parse(latent_body(tiny)), "train", most=3)


def test_the_command_reads_a_model_and_says_what_to_put_into_a_recipe(tiny: Path, tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    words = ["evaluate", "levels", str(data), "--model", str(tiny), "-n", "2", "-o", str(tmp_path), "--json"]
    result = CliRunner().invoke(app, [*words, "--set", "sampler.batch=2"])
    assert result.exit_code == 0, result.output
    assert {tuple(one["levels"]) for one in json.loads(result.stdout)} == {(1,), (2,), (1, 2)}
    assert "attention: {levels: [" in result.stderr
    assert len(json.loads((tmp_path / "levels.json").read_text())) == 9
