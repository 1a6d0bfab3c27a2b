"""Datasets come from models of every family, and from models in pieces; what does not fit is refused before that."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from cxrsynth import weights
from cxrsynth.errors import CxrError, MissingError, RecipeError, UsageError
from cxrsynth.factory.plan import check_prompts, make_plan
from cxrsynth.factory.prompts import spec
from cxrsynth.factory.run import run
from cxrsynth.generate.control.latent_blending import LatentBlending
from cxrsynth.generate.sampler import Latent
from cxrsynth.nets.assemble import find
from cxrsynth.nets.families import family_of
from cxrsynth.recipe import Recipe, parse
from cxrsynth.records import Draw
from tests.conftest import latent_body, tree
from tests.nets.original import state_dict
from tests.nets.tiny import BUILD, SIZE, build

JOINT = ("sd3", "sd3-without-t5", "flux-dev", "flux-schnell")
# (h, w) of the grid of the maps for pictures of 64 x 128 pixels.
GRIDS = {"sana": (8, 16), **dict.fromkeys(("sd", "lcm", "sdxl"), (16, 32))}
Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The folder of a tiny model by name, made once."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = build(name, tmp_path_factory.mktemp("models") / name)
        return made[name]

    return get


def recipe_for(where: Path, name: str, **changes: Any) -> Recipe:
    """Two steps of a model; families with joint attention are read at the words of the prompt."""
    sampler = {"num_inference_steps": 2, "batch": 2, "height": SIZE, "width": SIZE, **changes.pop("sampler", {})}
    keys = "prompt" if name in JOINT else "map"
    body = {
        "sampler": sampler,
        "attention": {"levels": [1, 2], "keys": keys},
        "prompts": {"templates": ["right lung, left lung, heart"]},
        **changes,
    }
    return parse(latent_body(where, **body))


def draw(where: Path, recipe: Recipe, tapped: bool = True) -> list[Draw]:
    latent = Latent(where, recipe.sampler, recipe.attention if tapped else None, torch.device("cpu"))
    return latent.draw([spec(recipe, index) for index in range(2)])


@pytest.mark.parametrize("name", BUILD)
def test_a_family_gives_images_and_a_map_for_each_class(name: str, folder: Folder) -> None:
    recipe = recipe_for(folder(name), name, sampler={"width": 2 * SIZE})
    tapped, plain = draw(folder(name), recipe), draw(folder(name), recipe, tapped=False)
    for one, other in zip(tapped, plain, strict=True):
        assert np.array_equal(one.image, other.image)  # reading changes nothing
        assert one.image.shape == (SIZE, 2 * SIZE)
        assert one.maps.shape == (3, *GRIDS.get(name, (8, 16)))
        assert (one.maps.sum(axis=(1, 2)) > 0).all()
    assert not np.array_equal(tapped[0].maps, tapped[1].maps)


@pytest.mark.parametrize("name", ["sana", "flux-dev"])
def test_a_run_of_a_family_goes_on_where_it_stopped(name: str, folder: Folder, tmp_path: Path) -> None:
    recipe = recipe_for(folder(name), name, count=4, shard=2)
    run(make_plan(recipe.model_copy(update={"count": 2}), tmp_path / "parts"))
    summary = run(make_plan(recipe, tmp_path / "parts"))
    assert (summary.shards_skipped, summary.shards_made, summary.kept) == (1, 1, 4)
    run(make_plan(recipe, tmp_path / "whole"))
    one, other = tree(tmp_path / "parts"), tree(tmp_path / "whole")
    images = [name for name in one if name.startswith(("images/", "masks/", "maps/"))]
    assert images
    assert all(one[name] == other[name] for name in images)


def test_workers_load_a_family_of_their_own(folder: Folder, tmp_path: Path) -> None:
    recipe = recipe_for(folder("pixart-sigma"), "pixart-sigma", count=4, shard=2)
    run(make_plan(recipe, tmp_path / "one"))
    assert run(make_plan(recipe, tmp_path / "two"), engine_options={"workers": 2}).kept == 4
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    assert all(one[name] == two[name] for name in one if name.startswith("images/"))


def test_joint_attention_wants_the_classes_in_the_prompt(folder: Folder) -> None:
    with pytest.raises(RecipeError, match="words of the prompt only") as error:
        draw(folder("sd3"), recipe_for(folder("sd3"), "sd3", attention={"keys": "map"}))
    assert "attention.keys: prompt" in error.value.hint
    with pytest.raises(RecipeError, match="does not name 'left lung'"):
        draw(folder("sd3"), recipe_for(folder("sd3"), "sd3", prompts={"templates": ["right lung, heart"]}))


def test_a_model_is_sampled_as_it_was_made_for_unless_the_recipe_says_otherwise(folder: Folder) -> None:
    plain = parse(latent_body(folder("lcm"), sampler={"batch": 2}))
    own = Latent(folder("lcm"), plain.sampler, None, torch.device("cpu"))
    assert type(own._schedule()).__name__ == "LCMScheduler"
    assert (own.steps, own.guidance_scale) == (4, 8.5)
    said = plain.sampler.model_copy(update={"scheduler": "ddim", "num_inference_steps": 3, "guidance_scale": 2.0})
    other = Latent(folder("lcm"), said, None, torch.device("cpu"))
    assert type(other._schedule()).__name__ == "DDIMScheduler"
    assert (other.steps, other.guidance_scale) == (3, 2.0)


def test_a_flow_matching_model_takes_samplers_that_know_flows_only(folder: Folder) -> None:
    assert draw(folder("sd3"), recipe_for(folder("sd3"), "sd3", sampler={"scheduler": "dpmsolver++"}))[0].finite
    with pytest.raises(RecipeError, match="flow matching, 'ddim' cannot sample it") as error:
        draw(folder("sd3"), recipe_for(folder("sd3"), "sd3", sampler={"scheduler": "ddim"}))
    assert "euler" in error.value.hint


@pytest.mark.parametrize(("name", "scheduler"), [("sd3", "euler"), ("flux-dev", "euler"), ("sana", "dpmsolver++")])
def test_latents_of_a_flow_can_be_held_to_the_end(name: str, scheduler: str, folder: Folder) -> None:
    recipe = recipe_for(folder(name), name, sampler={"scheduler": scheduler, "num_inference_steps": 4})
    latent = Latent(folder(name), recipe.sampler, None, torch.device("cpu"))
    target = torch.randn(2, latent.model.channels, *latent.latent_size, generator=torch.Generator().manual_seed(0))
    held = LatentBlending(target, torch.ones(2, 1, 1, 1), 1.0, 3.0)
    _, latents = latent.steered([spec(recipe, i) for i in range(2)], held)
    assert float((latents - target).abs().mean()) < 2e-3


# -- what does not fit ------------------------------------------------------------------------------------------------


def spoiled(source: Path, target: Path, file: str, **changes: Any) -> Path:
    """A copy of a model with some values of a JSON file changed."""
    shutil.copytree(source, target)
    body = json.loads((target / file).read_text())
    (target / file).write_text(json.dumps({**body, **changes}))
    return target


@pytest.mark.parametrize(
    ("name", "file", "changes", "said"),
    [
        ("sd", "unet/config.json", {"in_channels": 9}, "reads 9 and gives 4 channels"),
        ("sd", "vae/config.json", {"latent_channels": 8}, "its autoencoder has 8"),
        ("sd", "vae/config.json", {"in_channels": 4, "out_channels": 4}, "4 colours"),
        ("sd", "unet/config.json", {"cross_attention_dim": 48}, "gives 32 numbers a token, the denoiser reads 48"),
        ("sd", "unet/config.json", {"addition_embed_type": "image"}, r"wants more than a text \(image\)"),
        ("sd", "scheduler/scheduler_config.json", {"prediction_type": "score"}, "predicts 'score'"),
        ("sd", "vae/config.json", {"_class_name": "VQModel"}, "is a VQModel"),
        ("pixart-sigma", "text_encoder/config.json", {"d_model": 64}, "gives 64 numbers a token"),
        ("sd", "model_index.json", {"_class_name": "StableDiffusionInpaintPipeline"}, "which is not supported"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_a_weight_is_read(
    name: str, file: str, changes: dict[str, Any], said: str, folder: Folder, tmp_path: Path
) -> None:
    where = spoiled(folder(name), tmp_path / "model", file, **changes)
    plan = make_plan(recipe_for(where, name), tmp_path / "out")
    with pytest.raises(MissingError, match=said):
        check_prompts(plan)
    with pytest.raises(MissingError, match=said):
        Latent(where, plan.job.recipe.sampler, None, torch.device("cpu"))


def carry_out(recipe: Recipe, out: Path) -> None:
    """What ``generate`` does, in this process."""
    plan = make_plan(recipe, out)
    check_prompts(plan)
    run(replace(plan, job=replace(plan.job, labellers=0)))


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("unet/config.json", {"in_channels": "four"}),
        ("unet/config.json", {"in_channels": [4]}),
        ("unet/config.json", {"sample_size": "big"}),
        ("unet/config.json", {"cross_attention_dim": [32, 32]}),
        ("unet/config.json", {"_class_name": ["UNet2DConditionModel"]}),
        ("vae/config.json", {"latent_channels": None, "block_out_channels": 3}),
        ("vae/config.json", {"latent_channels": "x"}),
        ("text_encoder/config.json", {"hidden_size": {"a": 1}}),
        ("scheduler/scheduler_config.json", {"prediction_type": ["epsilon"]}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}),
        ("scheduler/scheduler_config.json", {"beta_schedule": "unheard of"}),
        ("model_index.json", {"../../..": ["diffusers", "UNet2DConditionModel"]}),
        ("model_index.json", {"unet": ["../..", "x"], "text_encoder": ["os", "system"]}),
    ],
)
def test_a_config_of_another_kind_is_an_error_of_the_model(
    file: str, changes: dict[str, Any], folder: Folder, tmp_path: Path
) -> None:
    """Nothing is tried twice: a wrong value is as wrong the second time."""
    where = spoiled(folder("sd"), tmp_path / "model", file, **changes)
    with pytest.raises((MissingError, RecipeError)) as error:
        carry_out(recipe_for(where, "sd", count=2), tmp_path / "out")
    assert error.value.exit_code in (2, 4)
    assert not list((tmp_path / "out").glob("failures/*"))


@pytest.mark.parametrize("text", ["{", "[]", "null", "[" * 5000, '{"a": 1' + "0" * 5000 + "}", "\x00\x01"])
@pytest.mark.parametrize("file", ["model_index.json", "vae/config.json", "tokenizer/tokenizer_config.json"])
def test_a_json_that_is_none_is_named(file: str, text: str, folder: Folder, tmp_path: Path) -> None:
    where = Path(shutil.copytree(folder("sd"), tmp_path / "model"))
    (where / file).write_text(text)
    with pytest.raises(MissingError, match=Path(file).name):
        weights.resolve(str(where))


def test_what_goes_wrong_in_the_first_batch_stops_the_run(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that does not fit in a way that no config tells fails in every batch alike."""
    recipe = recipe_for(folder("sd"), "sd", count=4)

    def wrong(*args: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(family_of(folder("sd")), "denoise", wrong)
    with pytest.raises(MissingError, match="mat1 and mat2"):
        carry_out(recipe, tmp_path / "out")
    assert not list((tmp_path / "out").glob("failures/*"))


def test_what_goes_wrong_later_is_an_accident_that_is_tried_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(folder("sd"), "sd")
    latent = Latent(folder("sd"), recipe.sampler, None, torch.device("cpu"))
    specs = [spec(recipe, index) for index in range(2)]
    latent.draw(specs)

    def wrong(*args: Any) -> Any:
        raise RuntimeError("the GPU fell off the bus")

    monkeypatch.setattr(latent.model, "denoise", wrong)
    with pytest.raises(RuntimeError, match="fell off"):
        latent.draw(specs)


def test_two_prompts_give_two_images(folder: Folder) -> None:
    sampler = recipe_for(folder("sd"), "sd").sampler
    latent = Latent(folder("sd"), sampler, None, torch.device("cpu"))
    first, second = (
        spec(recipe_for(folder("sd"), "sd", prompts={"templates": [text]}), 0) for text in ("heart", "lung")
    )
    assert first.seed == second.seed
    one, other = latent.draw([first, second])
    assert not np.array_equal(one.image, other.image)


def test_a_tokenizer_without_a_vocabulary_is_refused(folder: Folder, tmp_path: Path) -> None:
    where = Path(shutil.copytree(folder("sd"), tmp_path / "model"))
    for file in ("tokenizer.json", "vocab.json", "merges.txt"):
        (where / "tokenizer" / file).unlink(missing_ok=True)
    with pytest.raises(MissingError, match="tokenizer"):
        family_of(where).words(where)


def test_a_damaged_json_is_named(folder: Folder, tmp_path: Path) -> None:
    where = Path(shutil.copytree(folder("sd"), tmp_path / "model"))
    (where / "vae" / "config.json").write_text("{")
    with pytest.raises(MissingError, match=r"vae/config\.json cannot be read"):
        weights.resolve(str(where))


def test_steps_that_a_schedule_cannot_give_are_refused(folder: Folder) -> None:
    recipe = parse(latent_body(folder("lcm"), sampler={"num_inference_steps": 900, "batch": 1}))
    with pytest.raises(RecipeError, match="LCMScheduler cannot make 900 steps"):
        Latent(folder("lcm"), recipe.sampler, None, torch.device("cpu"))


# -- models in pieces -------------------------------------------------------------------------------------------------


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that goes with the test."""
    monkeypatch.setenv("CXRSYNTH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pictures(where: Path) -> np.ndarray:
    return np.stack([one.image for one in draw(where, recipe_for(where, "sd"), tapped=False)])


def test_half_precision_files_are_found_where_there_are_no_others(folder: Folder, tmp_path: Path) -> None:
    whole = StableDiffusionPipeline.from_pretrained(folder("sd"), safety_checker=None).to(torch.float16)
    whole.save_pretrained(tmp_path / "half", variant="fp16")
    assert not list((tmp_path / "half/unet").glob("*model.safetensors"))
    found = weights.resolve(str(tmp_path / "half")).path
    assert np.abs(pictures(found).astype(float) - pictures(folder("sd"))).mean() < 4


def test_a_lone_denoiser_takes_the_rest_from_its_base(folder: Folder, tmp_path: Path, own_cache: Path) -> None:
    other = build("sd", tmp_path / "other", seed=1)
    lone = Path(shutil.copytree(other / "unet", tmp_path / "tuned"))
    with pytest.raises(UsageError, match="denoiser only"):
        find(str(lone))
    found = find(str(lone), base=str(folder("sd")))
    assert load_file(next((found.path / "unet").glob("*.safetensors"))).keys()
    assert not np.array_equal(pictures(found.path), pictures(folder("sd")))
    again = find(str(lone), base=str(folder("sd")))
    assert (again.path, again.digest) == (found.path, found.digest)


def test_a_base_that_is_not_needed_is_refused(folder: Folder) -> None:
    with pytest.raises(UsageError, match="needs no base"):
        find(str(folder("sd")), base="mini")


def test_lora_folders_are_merged_with_their_scale(folder: Folder, tmp_path: Path, own_cache: Path) -> None:
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"
    torch.manual_seed(0)
    (tmp_path / "lora").mkdir()
    save_file(
        {f"{name}.lora_A.weight": torch.randn(2, 16), f"{name}.lora_B.weight": torch.randn(16, 2)},
        tmp_path / "lora" / "pytorch_lora_weights.safetensors",
    )
    full = find(str(folder("sd")), lora=[str(tmp_path / "lora")])
    half = find(str(folder("sd")), lora=[f"{tmp_path / 'lora'}:0.5"])
    key = f"{name.removeprefix('unet.')}.weight"
    base, one, other = (
        load_file(next((where / "unet").glob("*.safetensors")))[key] for where in (folder("sd"), full.path, half.path)
    )
    assert not torch.allclose(base, one)
    torch.testing.assert_close(other - base, (one - base) / 2, atol=1e-6, rtol=1e-4)
    assert full.digest != half.digest


def test_lora_weights_of_another_model_are_refused(folder: Folder, tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "lora").mkdir()
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"
    save_file(
        {f"{layer}.lora_A.weight": torch.randn(2, 320), f"{layer}.lora_B.weight": torch.randn(320, 2)},
        tmp_path / "lora" / "pytorch_lora_weights.safetensors",
    )
    with pytest.raises(CxrError, match="do not fit"):
        find(str(folder("sd")), lora=[str(tmp_path / "lora")])


@pytest.mark.parametrize("ending", [".safetensors", ".ckpt"])
def test_a_single_file_as_its_authors_publish_it_gives_the_same_images(
    ending: str, folder: Folder, tmp_path: Path, own_cache: Path
) -> None:
    weights_ = state_dict(build("sd", tmp_path / "other", seed=1))
    file = tmp_path / f"chest{ending}"
    if ending == ".ckpt":
        torch.save({"state_dict": weights_, "global_step": 7}, file)
    else:
        save_file(weights_, file)
    found = find(str(file), base=str(folder("sd")), offline=True)
    assert np.array_equal(pictures(found.path), pictures(tmp_path / "other"))


def test_a_file_that_is_no_model_is_refused(folder: Folder, tmp_path: Path, own_cache: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "some.safetensors")
    with pytest.raises(MissingError, match="cannot be read as a model"):
        find(str(tmp_path / "some.safetensors"), base=str(folder("sd")), offline=True)


def test_prompts_over_the_limit_are_cut_and_counted_where_asked(folder: Folder, tmp_path: Path) -> None:
    long = {"templates": ["heart " * 100], "too_long": "cut"}
    plan = make_plan(recipe_for(folder("sd"), "sd", prompts=long), tmp_path / "out")
    assert check_prompts(plan) == 1
    recipe = plan.job.recipe
    latent = Latent.from_recipe(recipe, folder("sd"), "cpu")
    assert latent.draw([spec(recipe, 0)])[0].finite
