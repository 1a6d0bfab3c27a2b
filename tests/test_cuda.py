"""What only a GPU can show; skipped without one (``make test-cuda``)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cxrsynth.factory.plan import make_plan
from cxrsynth.factory.prompts import spec
from cxrsynth.factory.run import run
from cxrsynth.generate.sampler import Latent
from tests.generate.test_families import JOINT, recipe_for
from tests.nets.tiny import BUILD, build

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("name", BUILD)
def test_a_family_generates_on_cuda_nearly_what_it_does_on_a_cpu(name: str, tmp_path: Path) -> None:
    where = build(name, tmp_path / name)
    recipe = recipe_for(where, name, sampler={"dtype": "float32"})
    ask = [spec(recipe, index) for index in range(2)]
    here, there = (Latent.from_recipe(recipe, where, device).draw(ask) for device in ("cpu", "cuda"))
    for one, other in zip(here, there, strict=True):
        assert np.abs(one.image.astype(float) - other.image).mean() < 4
        np.testing.assert_allclose(one.maps, other.maps, atol=0.05)


@pytest.mark.parametrize("name", [name for name in BUILD if name not in JOINT])
def test_auto_precision_is_bfloat16_on_cuda(name: str, tmp_path: Path) -> None:
    where = build(name, tmp_path / name)
    recipe = recipe_for(where, name)
    latent = Latent.from_recipe(recipe, where, "cuda")
    assert latent.model.denoiser.dtype == torch.bfloat16
    assert all(draw.finite for draw in latent.draw([spec(recipe, index) for index in range(2)]))


def test_a_dataset_is_the_same_twice_on_one_gpu(tmp_path: Path) -> None:
    where = build("sd", tmp_path / "sd")
    recipe = recipe_for(where, "sd", count=4, shard=2)
    for name in ("one", "two"):
        run(make_plan(recipe, tmp_path / name, device="cuda"))
    images = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one/images").rglob("*.png"))
    assert images
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes() for path in images)
