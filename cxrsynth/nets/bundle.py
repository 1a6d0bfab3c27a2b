"""The trained networks as a plain diffusers Stable-Diffusion folder, in half precision and small files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DDIMScheduler, StableDiffusionPipeline

from cxrsynth.files import publish

SHARD_BYTES = 15 * 1024 * 1024
# diffusers loads its classes lazily, which type checkers cannot follow: these names say what is meant.
Vae = Any  # AutoencoderKL
Unet = Any  # UNet2DConditionModel
TextEncoder = Any  # CLIPTextModel
Scheduler = Any  # DDIMScheduler
Tokenizer = Any  # a fast tokenizer of transformers
Pipeline = Any  # StableDiffusionPipeline


def hush() -> None:
    """No progress bars of the libraries: theirs count weight files, ours counts updates."""
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()


def scheduler() -> Scheduler:
    """The noise schedule of training and drawing: zero SNR at the last step, so that a synthetic image may have any
    tone (Lin et al., WACV 2024), and steps counted from there."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def pipeline(
    vae: Vae, unet: Unet, text_encoder: TextEncoder, tokenizer: Tokenizer, schedule: Scheduler | None = None
) -> Pipeline:
    """The parts as one pipeline. No safety checker: it takes radiographs for something else and blacks them out.

    Args:
        schedule: noise schedule; that of `scheduler` by default.
    """
    return StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=scheduler() if schedule is None else schedule,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save(folder: Path, whole: Pipeline, shard_bytes: int | None = None, card: str = "") -> None:
    """Write the pipeline in float16. The pipeline itself is converted: pass a copy.

    Args:
        shard_bytes: no weight file is larger; 15 MiB by default, as hosts of source code want it.
        card: the model card, ``README.md``; none where it is empty.
    """
    whole.to(torch.float16)

    def write(path: Path) -> None:
        whole.save_pretrained(path, max_shard_size=shard_bytes or SHARD_BYTES)
        if card:
            (path / "README.md").write_text(card, encoding="utf-8")
        for config in path.glob("*/config.json"):
            body = json.loads(config.read_text())
            body.pop("_name_or_path", None)  # where the part lay during training is nobody's business
            config.write_text(json.dumps(body, indent=2) + "\n")
        for weights in path.glob("*/*.safetensors"):
            weights.chmod((path / "model_index.json").stat().st_mode)  # the library leaves them to their owner alone

    publish(folder, write)
