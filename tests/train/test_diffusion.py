"""Training from a tiny Stable-Diffusion folder, whole: images in, a diffusers folder out."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from cxrsynth.encoding import dumps
from cxrsynth.errors import MismatchError, MissingError, RecipeError, UsageError
from cxrsynth.nets.lora import merge_adapter
from cxrsynth.recipe.settings import load_as
from cxrsynth.records import Entry
from cxrsynth.store import Store
from cxrsynth.train.recipe import ModelRecipe
from cxrsynth.train.tasks.diffusion.config import DiffusionRecipe
from cxrsynth.train.tasks.diffusion.training import train_diffusion
from cxrsynth.weights import resolve
from tests.tiny import build
from tests.train.images import make

SMALL: dict[str, Any] = {
    "name": "small",
    "images": {"fit": "squash"},
    "grounding": {"images_per_batch": 2},
    "training": {"updates": 4, "batch": 4, "validation_images": 2, "look_every": 100, "sheet_steps": 1,
                 "sheet_prompts": ["heart"], "lr": 1e-3, "warmup": 0, "ema": 0.5},
}  # fmt: skip


def recipe(**changes: dict[str, Any]) -> DiffusionRecipe:
    body = {**SMALL, **changes}
    body["training"] = {**SMALL["training"], **changes.get("training", {})}
    return DiffusionRecipe.model_validate(body)


def adapt(data: Path, run: Path, *given: Any, **options: Any) -> dict[str, Any]:
    return train_diffusion([data], run, *given, **options)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with three colours that predicts noise, as Stable Diffusion 1."""
    return build(tmp_path_factory.mktemp("base") / "sd", gray=False)


@pytest.fixture(scope="module")
def whole(images: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that trained the whole UNet."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    adapt(images, run, resolve(str(base)), recipe(), "cpu", "cxrsynth train-diffusion images")
    return run


@pytest.fixture(scope="module")
def lora(images: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that trained LoRA in both parts."""
    run = tmp_path_factory.mktemp("runs") / "lora"
    what = {"unet": "lora", "text_encoder": "lora", "rank": 2, "alpha": 4}
    adapt(images, run, resolve(str(base)), recipe(what=what), "cpu")
    return run


def parts(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    loaded = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None)
    return {name: getattr(loaded, name).state_dict() for name in ("unet", "text_encoder", "vae")}


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    """Equal up to the half precision in which models are written."""
    return all(torch.equal(ours[name], value.half().float()) for name, value in theirs.items())


def log(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "diffusion_log.jsonl").read_text().splitlines()]


def stop_after(steps: int) -> Callable[[int, int, dict[str, float]], None]:
    def on_step(done: int, total: int, values: dict[str, float]) -> None:
        if done == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    return on_step


def test_the_result_is_a_diffusers_folder_that_draws(whole: Path) -> None:
    drawn = StableDiffusionPipeline.from_pretrained(whole / "model", torch_dtype=torch.float32)
    drawn.set_progress_bar_config(disable=True)
    picture = drawn("right lung", num_inference_steps=1, output_type="np").images
    assert picture.shape == (1, 64, 64, 3)
    assert np.isfinite(picture).all()


def test_only_the_unet_changes_when_only_the_unet_trains(whole: Path, base: Path) -> None:
    ours, theirs = parts(whole / "model"), parts(base)
    assert not same(ours["unet"], theirs["unet"])
    assert same(ours["text_encoder"], theirs["text_encoder"])
    assert same(ours["vae"], theirs["vae"])


def test_the_model_is_the_average_of_the_weights_and_not_the_last_of_them(whole: Path) -> None:
    state = torch.load(whole / "diffusion.ckpt", weights_only=True)["parts"]
    written = parts(whole / "model")["unet"]
    averages = state["average"]["values"]
    for name, average in averages.items():
        assert torch.equal(written[name.removeprefix("unet.")], average.half().float()), name
    assert any(not torch.equal(last, averages[name]) for name, last in state["denoiser.network"].items())


def test_the_same_prompts_and_seeds_are_looked_at_and_held_out_images_measured(whole: Path) -> None:
    assert (whole / "samples-000004.png").exists()
    first = json.loads((whole / "before.jsonl").read_text())["before"]
    last = log(whole)[-1]["validation"]
    assert 0 < last < first  # the base has random weights
    assert f"{first:.4f} before" in (whole / "model/README.md").read_text()


def test_the_card_names_base_data_licences_and_command(whole: Path, base: Path) -> None:
    card = (whole / "model/README.md").read_text()
    assert resolve(str(base)).digest in card
    assert "| a | 3 |" in card
    assert "6 images: not stated" in card
    assert "cxrsynth train-diffusion images" in card


def test_the_folder_does_not_tell_where_it_was_trained(whole: Path, base: Path) -> None:
    for path in (whole / "model").rglob("*"):
        if path.suffix in (".json", ".md", ".txt"):
            assert str(base.parent) not in path.read_text(), path.name


def test_grounding_is_learned_where_masks_exist_and_left_out_where_not(whole: Path, images: Path, base: Path) -> None:
    assert all("ratio" in line for line in log(whole))
    run = whole.parent / "unmasked"
    adapt(images, run, resolve(str(base)), recipe(images={"shares": {"b": 1.0}}, training={"updates": 1}), "cpu")
    assert all("ratio" not in line for line in log(run))


def test_findings_are_grounded_on_simulated_images_of_another_dataset(
    images: Path, base: Path, whole: Path, tmp_path: Path
) -> None:
    simulated = simulated_images(tmp_path / "simulated", images)
    grounding = {"images_per_batch": 1, "findings_per_batch": 1, "findings": {"effusion": "pleural effusion"}}
    config = recipe(grounding=grounding, images={"fit": "squash", "shares": {"a": 1.0}}, training={"updates": 2})
    result = train_diffusion([images, simulated], tmp_path / "run", resolve(str(base)), config, "cpu")
    assert result["images"]["train"] == 3 + 3  # those of source a, and their copies with a finding
    assert all("ratio" in line for line in log(tmp_path / "run"))
    first, again = (load_latents(tmp_path / "run") for _ in range(2))
    assert np.array_equal(first["known"], again["known"])
    assert sorted(map(tuple, first["known"].tolist())) == [(1, 1, 1, 0)] * 3 + [(1, 1, 1, 1)] * 3


def simulated_images(root: Path, carriers: Path) -> Path:
    """The images with masks once more, with a layer for an effusion."""
    old, store = Store(carriers), Store(root)
    names = {**old.classes(), "effusion": 4}
    store.write("classes.json", dumps({"classes": [{"id": i, "name": n, "phrase": n} for n, i in names.items()]}))
    entries = []
    for row in old.rows():
        mask = old.load_mask(row)
        if mask is None:
            continue
        layers = np.stack([mask == i for i in (1, 2, 3)] + [np.arange(64)[:, None] * np.ones(64) > 48])
        kept = {name: row[name] for name in ("key", "prompt", "split", "patient", "source", "use", "mask_use")}
        told = {"simulated": {"effusion": {}}, "mask_classes": list(names)}
        entries.append(Entry({**kept, **told}, old.load_image(row), mask, layers))
    store.write_shard(0, entries, fingerprint="simulated", planned=[entry.row["key"] for entry in entries])
    return root


def load_latents(run: Path) -> dict[str, np.ndarray]:
    """What was encoded of the training images: the larger of the two files."""
    with np.load(max(run.glob("latents-*.npz"), key=lambda path: path.stat().st_size)) as file:
        return {name: file[name] for name in file.files}


def test_a_killed_adaptation_resumes_to_the_same_weights(images: Path, base: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        adapt(images, tmp_path, resolve(str(base)), recipe(), "cpu", on_step=stop_after(1))
    assert len(log(tmp_path)) == 2  # the step that was running is finished
    assert adapt(images, tmp_path, resolve(str(base)), recipe(), "cpu", export_only=True)["updates"] == 2
    assert not same(parts(tmp_path / "model")["unet"], parts(base)["unet"])
    adapt(images, tmp_path, resolve(str(base)), recipe(), "cpu")
    ours, theirs = (torch.load(run / "diffusion.ckpt", weights_only=True)["parts"] for run in (tmp_path, whole))
    for name, value in theirs["denoiser.network"].items():
        assert torch.equal(ours["denoiser.network"][name], value), name
    assert log(tmp_path) == log(whole)


def test_a_batch_in_parts_learns_the_same(images: Path, base: Path, whole: Path, tmp_path: Path) -> None:
    adapt(images, tmp_path, resolve(str(base)), recipe(training={"micro": 3}), "cpu")
    for ours, theirs in zip(log(tmp_path), log(whole), strict=True):
        assert ours["denoising"] == pytest.approx(theirs["denoising"], rel=0.02)
        assert ours["ratio"] == pytest.approx(theirs["ratio"], rel=0.02)


def test_gradient_checkpointing_changes_memory_and_nothing_else(
    images: Path, base: Path, whole: Path, tmp_path: Path
) -> None:
    adapt(images, tmp_path, resolve(str(base)), recipe(training={"gradient_checkpointing": True}), "cpu")
    for ours, theirs in zip(log(tmp_path), log(whole), strict=True):
        assert ours["denoiser_norm"] == pytest.approx(theirs["denoiser_norm"], rel=1e-3)


def test_an_adapter_merged_into_its_base_is_the_model_of_the_run(lora: Path, base: Path, tmp_path: Path) -> None:
    merged = parts(merge_adapter(lora / "adapter", resolve(str(base)), tmp_path / "merged"))
    ours, theirs = parts(lora / "model"), parts(base)
    for part in ("unet", "text_encoder"):
        assert not same(ours[part], theirs[part])
        for name, value in ours[part].items():
            assert torch.allclose(merged[part][name], value, atol=2e-4), f"{part} {name}"


def test_an_adapter_is_small_and_its_checkpoint_too(lora: Path, whole: Path) -> None:
    assert (lora / "diffusion.ckpt").stat().st_size < 0.3 * (whole / "diffusion.ckpt").stat().st_size
    assert not (whole / "adapter").exists()


def test_an_adapter_for_another_base_is_refused(lora: Path, tmp_path: Path) -> None:
    other = build(tmp_path / "other", gray=False, seed=1)
    with pytest.raises(MismatchError, match="trained on 'sd'"):
        merge_adapter(lora / "adapter", resolve(str(other)), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_merging_never_replaces_a_folder(lora: Path, base: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(MismatchError, match="there already"):
        merge_adapter(lora / "adapter", resolve(str(base)), tmp_path / "there")


def test_a_gray_base_that_predicts_velocities_gets_zero_snr(images: Path, tmp_path: Path) -> None:
    base = build(tmp_path / "gray", prediction="v_prediction")
    changes = {"noise": {"zero_snr": True}, "what": {"text_encoder": "full", "unet": "frozen"}}
    adapt(images, tmp_path / "run", resolve(str(base)), recipe(training={"updates": 2}, **changes), "cpu")
    body = json.loads((tmp_path / "run/model/scheduler/scheduler_config.json").read_text())
    assert body["rescale_betas_zero_snr"]
    assert body["prediction_type"] == "v_prediction"
    ours, theirs = parts(tmp_path / "run/model"), parts(base)
    assert same(ours["unet"], theirs["unet"])
    assert not same(ours["text_encoder"], theirs["text_encoder"])


def test_a_domain_encoder_of_another_width_takes_the_place_of_the_bases_own(
    images: Path, base: Path, tmp_path: Path
) -> None:
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    encoder = domain_encoder(tmp_path / "bert")
    what = {"encoder": str(encoder), "text_encoder": "full"}
    result = adapt(images, tmp_path / "run", resolve(str(base)), recipe(what=what, training={"updates": 2}), "cpu")
    assert result["adapter"] is None
    assert result["captions"]["limit"] == 24
    loaded = StableDiffusionPipeline.from_pretrained(tmp_path / "run/model", torch_dtype=torch.float32)
    assert isinstance(loaded.text_encoder, BertModel)
    assert loaded.unet.config.cross_attention_dim == BertConfig.from_pretrained(encoder).hidden_size == 24
    assert isinstance(loaded.tokenizer, PreTrainedTokenizerFast)
    drawn = loaded("heart", num_inference_steps=1, output_type="np").images
    assert np.isfinite(drawn).all()


def domain_encoder(folder: Path) -> Path:
    """A BERT of width 24 that knows three words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "heart", "right", "left", "lung", "cardiomegaly"]
    words = Tokenizer(models.WordLevel({name: i for i, name in enumerate(known)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=512,
    )  # fmt: skip
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(known), hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def test_keys_of_another_width_cannot_be_learned_by_lora(images: Path, base: Path, tmp_path: Path) -> None:
    what = {"encoder": str(domain_encoder(tmp_path / "bert")), "unet": "lora"}
    with pytest.raises(RecipeError, match="24 numbers") as error:
        adapt(images, tmp_path / "run", resolve(str(base)), recipe(what=what), "cpu")
    assert "what.unet=full" in error.value.hint


def test_the_checkpoint_of_another_recipe_or_base_is_refused(
    images: Path, base: Path, whole: Path, tmp_path: Path
) -> None:
    before = (whole / "diffusion.ckpt").read_bytes()
    with pytest.raises(MismatchError):
        adapt(images, whole, resolve(str(base)), recipe(noise={"offset": 0.1}), "cpu")
    with pytest.raises(MismatchError):
        adapt(images, whole, resolve(str(build(tmp_path / "b", gray=False, seed=1))), recipe(), "cpu")
    assert (whole / "diffusion.ckpt").read_bytes() == before


def test_a_model_of_another_training_is_never_replaced(images: Path, base: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(UsageError, match="another training"):
        adapt(images, tmp_path, resolve(str(base)), recipe(), "cpu")


def test_a_base_in_the_run_folder_is_refused(images: Path, whole: Path) -> None:
    with pytest.raises(UsageError, match="lies in the run folder"):
        adapt(images, whole, resolve(str(whole / "model")), recipe(), "cpu")


def test_eight_bit_adam_says_what_to_install(
    images: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes.optim", None)
    with pytest.raises(MissingError) as error:
        adapt(images, tmp_path / "run", resolve(str(base)), recipe(training={"optimizer": "adamw8bit"}), "cpu")
    assert "cxrsynth[adam8bit]" in error.value.hint
    assert not (tmp_path / "run").exists()


def test_float16_without_a_gpu_is_refused(images: Path, base: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="CUDA"):
        adapt(images, tmp_path / "run", resolve(str(base)), recipe(training={"precision": "fp16"}), "cpu")


def test_the_shipped_recipe_can_be_loaded() -> None:
    path = Path(__file__).parents[2] / "recipes/train/roentgen.yaml"
    assert load_as(ModelRecipe, path, {"what.unet": "lora"}).what.adapter
