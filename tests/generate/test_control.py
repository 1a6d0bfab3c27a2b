"""Imposed anatomies and findings: what is held stays, what is free is drawn, and an image depends on its Spec alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from cxrsynth.auxiliary_files import AUXILIARY
from cxrsynth.domain.regions import edge
from cxrsynth.errors import MismatchError, MissingError, RecipeError
from cxrsynth.factory.prompts import spec
from cxrsynth.generate import build as build_generator
from cxrsynth.generate.control.controlled import Controlled
from cxrsynth.generate.control.feather import hold
from cxrsynth.generate.control.latent_blending import LatentBlending, level
from cxrsynth.generate.control.pathology import find_region
from cxrsynth.nets.pathology import Adapter
from cxrsynth.nets.schedulers import build
from cxrsynth.recipe import Recipe, parse
from cxrsynth.records import Draw
from cxrsynth.weights import digest
from tests import anatomies
from tests.conftest import CLASSES, latent_body
from tests.tiny import build as build_tiny

OPACITY = {"name": "opacity", "id": 4, "phrase": "opacity", "optional": True, "overlap": True}
EFFUSION = {"name": "effusion", "id": 5, "phrase": "no pleural effusion", "optional": True, "overlap": True}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The ``anatomy:`` block with label maps and a network in a temporary folder."""
    root = tmp_path_factory.mktemp("anatomy")
    maps, net = anatomies.folder(root / "maps"), anatomies.network(root / "net.safetensors")
    return {"from": str(maps), "network": str(net)}


def controlled(
    model: Path, anatomy: dict[str, Any] | str, pathology: list[dict[str, Any]] | None = None, **changes: Any
) -> tuple[Controlled, Recipe]:
    sampler = {"num_inference_steps": 4, "batch": 2, **changes.pop("sampler", {})}
    inpaint = changes.pop("inpaint", {})
    # What the model alone makes of words; simulated findings have tests of their own.
    asked = [{"method": "inpaint", **finding} for finding in pathology or []]
    control = {"anatomy": anatomy, "pathology": asked, "inpaint": inpaint}
    body = latent_body(model, classes=[*CLASSES, OPACITY, EFFUSION], control=control, sampler=sampler, **changes)
    recipe = parse(body)
    made = build_generator(recipe, model, "cpu")
    assert isinstance(made, Controlled)
    return made, recipe


def draws(made: Controlled, recipe: Recipe, count: int = 2) -> list[Draw]:
    return made.draw([spec(recipe, index) for index in range(count)])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    "scheduler", ["dpmsolver++", "ddim", "ddpm", "pndm", "euler", "unipc", "HeunDiscreteScheduler"]
)
def test_every_scheduler_ends_at_latents_that_are_held_to_the_end(
    scheduler: str, prediction: str, tiny: Path, parts: dict[str, str], tmp_path: Path
) -> None:
    model = tiny if prediction == "epsilon" else build_tiny(tmp_path / "v", prediction=prediction)
    made, recipe = controlled(model, parts, sampler={"scheduler": scheduler})
    target = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    blending = LatentBlending(target, torch.ones(2, 1, 16, 16), 1.0, 3.0)
    _, latents = made.latent.steered([spec(recipe, index) for index in range(2)], blending)
    # pndm extrapolates over steps, which velocities of different steps allow only roughly.
    loose = scheduler == "pndm" and prediction == "v_prediction"
    assert float((latents - target).abs().mean()) < (0.2 if loose else 1e-3)


def test_a_free_prediction_is_not_touched(tiny: Path, parts: dict[str, str]) -> None:
    made, recipe = controlled(tiny, parts)
    specs = [spec(recipe, index) for index in range(2)]
    blending = LatentBlending(torch.ones(2, 4, 16, 16), torch.zeros(2, 1, 16, 16), 1.0, made.latent.guidance_scale)
    torch.testing.assert_close(
        made.latent.steered(specs, blending)[1], made.latent.steered(specs)[1], atol=1e-4, rtol=0
    )


def test_after_its_part_of_the_steps_the_image_runs_free(tiny: Path, parts: dict[str, str]) -> None:
    made, recipe = controlled(tiny, parts)
    target = torch.full((2, 4, 16, 16), 3.0)
    specs = [spec(recipe, index) for index in range(2)]
    far = [
        float(
            (made.latent.steered(specs, LatentBlending(target, torch.ones(2, 1, 16, 16), until, 3.0))[1] - target)
            .abs()
            .mean()
        )
        for until in (1.0, 0.5)
    ]
    assert far[0] < 1e-3 < far[1]


def test_a_fading_pull_is_weaker_the_later_it_is() -> None:
    scheduler = build("ddim", {"_class_name": "DDIMScheduler", "prediction_type": "sample"})
    scheduler.set_timesteps(10)
    nothing, ones = torch.zeros(1, 4, 8, 8), torch.ones(1, 4, 8, 8)
    blending = LatentBlending(ones, torch.ones(1, 1, 8, 8), 0.8, 1.0, fade=1.0)
    moved = [
        float(blending(nothing, nothing, scheduler.timesteps[5], done, scheduler).mean()) for done in (0.0, 0.4, 0.8)
    ]
    assert moved == pytest.approx([1.0, 0.5, 0.0])


def test_blending_keeps_the_variance_of_the_noise() -> None:
    """The fix of METHODS: at weight 0.2 two independent noises would leave 0.68 of the variance."""
    scheduler = build("ddim", {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "steps_offset": 1})
    scheduler.set_timesteps(10)
    noise = torch.randn(4, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    t = scheduler.timesteps[4]
    alpha, sigma = level(scheduler, t)
    x = sigma * noise  # of an image that is zero everywhere
    blended = LatentBlending(torch.zeros_like(x), torch.full((4, 1, 64, 64), 0.2), 1.0, 1.0)(
        noise, x, t, 0.4, scheduler
    )
    before = scheduler.step(blended, t, x).prev_sample
    _, next_sigma = level(scheduler, scheduler.timesteps[5])
    assert float(before.var()) == pytest.approx(next_sigma**2, rel=0.02)
    assert alpha**2 + sigma**2 == pytest.approx(1)


def test_the_imposed_masks_come_with_the_image_and_are_the_labels(tiny: Path, parts: dict[str, str]) -> None:
    finding = {"finding": "opacity", "region": "left lower zone", "shape": "whole"}
    made, recipe = controlled(tiny, parts, [finding], inpaint={"feather": 0})
    draw = draws(made, recipe)[0]
    assert draw.control is not None
    assert draw.control.shape == (5, 64, 64)
    mask = made.anatomy_of(spec(recipe, 0))
    assert mask is not None
    for k, number in enumerate((1, 2, 3)):
        np.testing.assert_array_equal(draw.control[k], mask == number)
    assert draw.control[3].any()
    assert not (draw.control[3] & ~draw.control[1]).any()
    assert not draw.control[4].any()


def test_a_finding_changes_the_image_in_its_region_and_nowhere_else(tiny: Path, parts: dict[str, str]) -> None:
    finding = {"finding": "opacity", "region": [0.5, 0.4, 0.8, 0.7], "shape": "whole"}
    feather = 0.05
    inpaint = {"feather": feather}
    box = np.zeros((64, 64), bool)
    box[round(0.4 * 64) : round(0.7 * 64), 32 : round(0.8 * 64)] = True
    after = draws(*controlled(tiny, parts, [finding], inpaint=inpaint))
    before = draws(*controlled(tiny, parts))
    for old, new in zip(before, after, strict=True):
        assert new.control is not None
        changed = old.image != new.image
        assert changed[new.control[3]].any()
        assert not (changed & (edge(box, feather * 64) == 0)).any()


def test_two_findings_in_one_image_have_a_layer_each(tiny: Path, parts: dict[str, str]) -> None:
    pathology = [
        {"finding": "opacity", "region": "right upper zone"},
        {"finding": "effusion", "region": "left costophrenic angle", "shape": "whole"},
    ]
    draw = draws(*controlled(tiny, parts, pathology))[0]
    assert draw.control is not None
    assert draw.control[3].any()
    assert draw.control[4].any()
    assert not (draw.control[3] & draw.control[4]).any()


def test_a_fainter_finding_changes_less(tiny: Path, parts: dict[str, str]) -> None:
    before = draws(*controlled(tiny, parts))[0].image.astype(float)
    change = []
    for severity in (0.3, 1.0):
        finding = {"finding": "opacity", "region": "left lung", "shape": "whole", "severity": [severity, severity]}
        change.append(float(np.abs(draws(*controlled(tiny, parts, [finding]))[0].image - before).mean()))
    assert 0 < change[0] < 0.9 * change[1]


def test_an_image_does_not_depend_on_which_others_have_a_finding(tiny: Path, parts: dict[str, str]) -> None:
    finding = {"finding": "opacity", "region": "left lower zone", "probability": 0.5}
    made, recipe = controlled(tiny, parts, [finding])
    specs = [spec(recipe, index) for index in range(8)]
    has = [bool(one.control and one.control["findings"]) for one in specs]
    sick, healthy, other = has.index(True), has.index(False), len(has) - 1 - has[::-1].index(True)
    together = made.draw([specs[sick], specs[other]])[0]
    np.testing.assert_array_equal(together.image, made.draw([specs[sick], specs[healthy]])[0].image)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_it_draws_with_and_without_prompt_and_guidance(guidance: float, tiny: Path, parts: dict[str, str]) -> None:
    changes = {"sampler": {"guidance_scale": guidance}, "prompts": {"templates": [""]}}
    assert all(draw.finite for draw in draws(*controlled(tiny, parts, **changes)))


def test_a_colour_model_of_stable_diffusion_is_controlled_as_well(parts: dict[str, str], tmp_path: Path) -> None:
    model = build_tiny(tmp_path / "rgb", gray=False)
    finding = {"finding": "opacity", "region": "right lung"}
    draw = draws(*controlled(model, parts, [finding]))[0]
    assert draw.image.shape == (64, 64)


def test_without_an_imposed_anatomy_words_are_found_by_attention(tiny: Path) -> None:
    made, recipe = controlled(tiny, "none", [{"finding": "opacity", "region": [0.3, 0.3, 0.7, 0.7]}])
    draw = draws(made, recipe)[0]
    assert draw.control is not None
    assert draw.control[3].any()
    assert not draw.control[:3].any()


def test_words_without_any_anatomy_are_an_error_that_says_what_to_set() -> None:
    with pytest.raises(RecipeError, match="no anatomy") as caught:
        find_region({"region": "left lung"}, None)
    assert "control.anatomy" in caught.value.hint


def test_a_missing_network_is_an_error_that_says_how_to_make_one(tiny: Path, parts: dict[str, str]) -> None:
    with pytest.raises(MissingError) as caught:
        controlled(tiny, {**parts, "network": "nowhere.safetensors"})
    assert "train-anatomy" in caught.value.hint


def test_a_file_that_is_no_network_is_an_error(tiny: Path, parts: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(MissingError, match="anatomy weights"):
        controlled(tiny, {**parts, "network": str(tmp_path / "x.safetensors")})


def adapter(path: Path, model: Path) -> Path:
    """An adapter of random weights for a tiny model, as ``train-pathology`` writes it."""
    unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet")
    made = Adapter(unet, 2, ["to_v"])
    told = {"format": AUXILIARY["adapter"].format, "model": digest(model), "net": {"rank": 2, "targets": ["to_v"]}}
    draw = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(value.shape, generator=draw) for name, value in made.parameters.items()}
    save_file(tensors, path, {"cxrsynth": json.dumps(told)})
    return path


def test_an_adapter_changes_the_region_of_a_finding_and_nothing_else(
    tiny: Path, parts: dict[str, str], tmp_path: Path
) -> None:
    asked = [{"finding": "opacity", "region": [0.3, 0.3, 0.7, 0.7], "shape": "whole"}]
    one = adapter(tmp_path / "a.safetensors", tiny)
    plain, recipe = controlled(tiny, parts, asked, inpaint={"feather": 0})
    taught, named = controlled(tiny, parts, asked, inpaint={"feather": 0, "adapter": str(one)})
    box = np.zeros((64, 64), bool)
    box[round(0.3 * 64) : round(0.7 * 64), round(0.3 * 64) : round(0.7 * 64)] = True
    for before, after in zip(draws(plain, recipe), draws(taught, named), strict=True):
        changed = before.image != after.image
        assert changed[box].any()
        assert not changed[~box].any()


def test_an_adapter_of_another_model_is_said_before_an_image_is_drawn(
    tiny: Path, parts: dict[str, str], tmp_path: Path
) -> None:
    one = adapter(tmp_path / "a.safetensors", build_tiny(tmp_path / "other", seed=1))
    with pytest.raises(MismatchError, match="another model"):
        controlled(tiny, parts, [{"finding": "opacity", "region": "left lung"}], inpaint={"adapter": str(one)})


def test_organs_are_held_and_the_rest_less() -> None:
    weight = hold(anatomies.chest(), 1.0, 0.2, 0.05)
    assert (weight[anatomies.chest() > 0] == 1).all()
    assert weight[0, 0] == pytest.approx(0.2)
    assert weight.min() >= 0.2 - 1e-6
