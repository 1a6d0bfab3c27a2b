"""The latent diffusion generator: prompts in, radiographs and class attention maps out.

Works on any diffusers folder with a UNet2DConditionModel, a text encoder and an AutoencoderKL: Stable Diffusion 1.x
and 2.x, RoentGen, and small models with a one-channel autoencoder.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from cxrsynth.device import resolve
from cxrsynth.errors import MissingError, RecipeError
from cxrsynth.generate.answers import Asker, look
from cxrsynth.nets import schedulers
from cxrsynth.nets.taps import KeySource, Taps, class_text, column_weights, merge_levels, observe, token_columns
from cxrsynth.nets.text import check_tokens, load_text_encoder, load_tokenizer
from cxrsynth.recipe import AttentionSpec, Recipe, Sampler
from cxrsynth.records import Asked, Draw, Spec

OnStep = Callable[[int, int], None]
NOTHING_ASKED = Asked()


class Steer(Protocol):
    """Changes what the network predicts, between its pass and the scheduler's step."""

    guidance_scale: float

    def __call__(self, predicted: Tensor, x: Tensor, t: Any, done: float, scheduler: Any) -> Tensor:
        """(B, C, h, w) prediction for the (B, C, h, w) input of the network; ``done``: part of the steps, 0 to 1."""
        ...


class Latent:
    """Draws batches from a latent diffusion model and reads its cross-attention on the way.

    Args:
        folder: diffusers folder.
        sampler: how to sample.
        attention: what to read; None draws without taps, the maps are then empty.
        device: where to compute.
        on_step: called as ``on_step(step, steps)`` after each denoising step.
        asked: what refiners want to know about a picture besides its maps; it is looked at once more for that.

    Raises:
        MissingError: the folder lacks a part or a part cannot be read.
        RecipeError: unknown scheduler, or a size the model cannot draw.
    """

    def __init__(
        self,
        folder: Path,
        sampler: Sampler,
        attention: AttentionSpec | None,
        device: torch.device,
        on_step: OnStep | None = None,
        asked: Asked = NOTHING_ASKED,
    ) -> None:
        self.sampler, self.attention, self.device, self.on_step = sampler, attention, device, on_step
        self.folder = folder
        # The libraries' own bars count weight files; ours counts samples.
        transformers.utils.logging.disable_progress_bar()
        diffusers.utils.logging.disable_progress_bar()
        self.tokenizer = load_tokenizer(folder)
        self.scheduler_config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        schedulers.build(sampler.scheduler, self.scheduler_config)  # an unknown name is said before the model is read
        try:
            self.text_encoder = load_text_encoder(folder).to(device).eval()
            dtype = getattr(torch, sampler.dtype)
            self.unet = UNet2DConditionModel.from_pretrained(
                folder, subfolder="unet", torch_dtype=dtype, local_files_only=True
            )
            self.vae = AutoencoderKL.from_pretrained(
                folder, subfolder="vae", torch_dtype=torch.float32, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise MissingError(
                f"the model in {folder} cannot be read: {error}", "download or train it again"
            ) from error
        self.unet = self.unet.to(device).eval()
        # Gray levels need more than the 8 bits of a bfloat16 mantissa, and Stable Diffusion's overflows in float16.
        self.vae = self.vae.to(device).eval()
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.latent_size = self._latent_size()
        self.asker = Asker(folder, asked, self.latent_size, device)

    @classmethod
    def from_recipe(cls, recipe: Recipe, model: Path | None, device: str, on_step: OnStep | None = None) -> Latent:
        """The generator of a recipe; ``model`` is the folder its weights were resolved to."""
        if model is None:
            raise MissingError("generator 'latent' needs a model", "--model mini, a folder, or a hub id")
        attention = recipe.attention if recipe.reads_attention() else None
        return cls(model, recipe.sampler, attention, resolve(device), on_step, recipe.asked())

    def _latent_size(self) -> tuple[int, int]:
        native = self.unet.config.sample_size
        native_h, native_w = (native, native) if isinstance(native, int) else native
        height = self.sampler.height or native_h * self.factor
        width = self.sampler.width or native_w * self.factor
        multiple = self.factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        if height % multiple or width % multiple:
            raise RecipeError(
                f"this model cannot draw {height} x {width}", f"height and width must be multiples of {multiple}"
            )
        return height // self.factor, width // self.factor

    def draw(self, specs: list[Spec]) -> list[Draw]:
        """One batch.

        Returns:
            per Spec the (H, W) uint8 picture and (K, h, w) float32 maps on the finest grid that was read, K in the
            order of ``spec.phrases``.

        Raises:
            RecipeError: a prompt or the list of phrases is over the token limit.
        """
        return self.steered(specs)[0]

    @torch.inference_mode()
    def steered(self, specs: list[Spec], steer: Steer | None = None) -> tuple[list[Draw], Tensor]:
        """One batch as `draw` gives it, and its latents (B, C, h, w); ``steer`` changes predictions on the way."""
        scale = self.sampler.guidance_scale if steer is None else steer.guidance_scale
        guided = scale > 1

        # 1. Text: prompts, negative prompts, and the phrases of the classes.
        prompts = [spec.prompt for spec in specs]
        check_tokens(self.tokenizer, prompts)
        states = self.encode(prompts)  # (B, T, D)
        context = torch.cat([self.encode([spec.negative_prompt for spec in specs]), states]) if guided else states
        taps = self._taps(specs, states, guided)

        # 2. Noise: each sample has its own, whatever the batch and the device.
        noise_generators = [torch.Generator().manual_seed(spec.seed) for spec in specs]
        shape = (self.unet.config.in_channels, *self.latent_size)
        latents = torch.stack([torch.randn(shape, generator=g) for g in noise_generators]).to(
            self.device
        )  # (B, C, h, w)

        # 3. Time steps.
        scheduler = schedulers.build(self.sampler.scheduler, self.scheduler_config)
        scheduler.set_timesteps(self.sampler.num_inference_steps, device=self.device)
        latents = latents * scheduler.init_noise_sigma
        step_options = self._step_options(scheduler, noise_generators)
        steps = len(scheduler.timesteps)

        # 4. Denoise, with the taps on during their part of the steps.
        def denoise() -> Tensor:
            x = latents
            for step, t in enumerate(scheduler.timesteps):
                if taps is not None and self.attention is not None:
                    taps.active = self.attention.steps[0] <= step / max(1, steps - 1) <= self.attention.steps[1]
                both = torch.cat([x, x]) if guided else x
                both = scheduler.scale_model_input(both, t).to(self.unet.dtype)
                predicted = self.unet(both, t, encoder_hidden_states=context.to(self.unet.dtype)).sample.float()
                if guided:
                    predicted = guide(predicted, scale, self.sampler.guidance_rescale)
                if steer is not None:
                    # In full precision: at the last steps the noise is so small that rounding would be divided by it.
                    predicted = steer(predicted, scheduler.scale_model_input(x, t), t, step / steps, scheduler)
                x = scheduler.step(predicted, t, x, **step_options).prev_sample
                if self.on_step is not None:
                    self.on_step(step + 1, steps)
            return x

        if taps is None:
            latents = denoise()
        else:
            with observe(self.unet, taps):
                latents = denoise()

        # 5. Decode one by one (the decoder is the peak of memory), to gray.
        pictures = [self.decode(latent) for latent in latents]

        # 6. Maps: one copy to the host.
        if taps is None or self.attention is None:
            maps = np.zeros((len(specs), 0, 1, 1), dtype=np.float32)
        else:
            maps = merge_levels(taps.maps(), self.attention.normalise_levels).cpu().numpy()

        # 7. What the chain asks besides, of the finished pictures.
        reads = self._reads(latents, np.stack([image for image, _ in pictures]), noise_generators)
        return [
            Draw(image=image, maps=maps[i], finite=finite, reads=reads[i]) for i, (image, finite) in enumerate(pictures)
        ], latents

    def _reads(
        self, latents: Tensor, pictures: np.ndarray, generators: list[torch.Generator]
    ) -> list[dict[str, np.ndarray]]:
        """Answers for each picture; the noise for it comes from the picture's own stream."""
        with self.asker.observe(self.unet, pictures) as answers:
            if self.asker.asked and self.attention is not None:
                scheduler = schedulers.build("ddim", self.scheduler_config)
                look(self.unet, scheduler, latents, self.encode([""]), generators, self.attention.timesteps)
            return answers()

    def encode(self, texts: list[str]) -> Tensor:
        """Texts -> (B, T, D) float32 states, padded to the tokenizer's length."""
        ids = self.tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=self.tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids.to(self.device)
        return self.text_encoder(ids)[0].float()

    def decode(self, latent: Tensor) -> tuple[np.ndarray, bool]:
        """(C, h, w) latents -> ((H, W) uint8, whether every pixel was a number)."""
        z = latent[None].float() / self.vae.config.scaling_factor + (
            getattr(self.vae.config, "shift_factor", None) or 0.0
        )
        picture = self.vae.decode(z).sample[0].mean(dim=0)  # (H, W), -1..1; three equal channels in Stable Diffusion
        finite = bool(torch.isfinite(picture).all())
        gray = (picture.nan_to_num() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        return gray.cpu().numpy(), finite

    def _step_options(self, scheduler: Any, generators: list[torch.Generator]) -> dict[str, Any]:
        accepted = inspect.signature(scheduler.step).parameters
        options: dict[str, Any] = {}
        if "generator" in accepted:
            options["generator"] = generators
        if "eta" in accepted:
            options["eta"] = self.sampler.eta
        return options

    def _taps(self, specs: list[Spec], states: Tensor, guided: bool) -> Taps | None:
        if self.attention is None or not specs[0].phrases:
            return None
        phrases = list(specs[0].phrases.values())
        tokens = states.shape[1]
        text = class_text(phrases)
        check_tokens(self.tokenizer, [text], what="the list of class phrases")
        own_columns = token_columns(self.tokenizer, text, phrases)
        sources = []
        if self.attention.keys == "prompt":
            named = [token_columns(self.tokenizer, spec.prompt, phrases) for spec in specs]
            weights = torch.stack([column_weights(columns, tokens) for columns in named])  # (B, T, K)
            sources.append(KeySource(states, weights.to(self.device)))
            # A class the prompt does not name is read from the phrases' own text.
            rest = [[[] if columns[k] else own_columns[k] for k in range(len(phrases))] for columns in named]
        else:
            rest = [own_columns]
        own = torch.stack([column_weights(columns, tokens) for columns in rest])
        if bool(own.any()):
            sources.append(KeySource(self.encode([text]), own.to(self.device)))
        conditional = slice(len(specs), None) if guided else slice(None)
        return Taps(sources, self.latent_size, conditional, self.attention.levels)


def guide(both: Tensor, scale: float, rescale: float) -> Tensor:
    """Classifier-free guidance on ``[unconditional, conditional]`` predictions: (2B, C, h, w) -> (B, C, h, w).

    ``rescale`` brings the standard deviation back towards the conditional one (Lin et al., WACV 2024, section 3.4).
    """
    unconditional, conditional = both.chunk(2)
    guided = unconditional + scale * (conditional - unconditional)
    if rescale:
        axes = tuple(range(1, guided.ndim))
        matched = guided * conditional.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True).clamp_min(1e-8)
        guided = rescale * matched + (1 - rescale) * guided
    return guided
