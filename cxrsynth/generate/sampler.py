"""The latent diffusion generator: prompts in, radiographs and class attention maps out, whatever the model's family."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cxrsynth.clock import CLOCK
from cxrsynth.device import precision, resolve, tune
from cxrsynth.errors import MissingError, RecipeError
from cxrsynth.generate.answers import Asker, look
from cxrsynth.generate.guidance import guide
from cxrsynth.generate.texts import class_sources
from cxrsynth.nets import families, parts, schedulers
from cxrsynth.nets.autoencoder import to_gray, to_images
from cxrsynth.nets.conditioning import Conditioning
from cxrsynth.nets.taps import KeySource, Taps, column_weights, merge_levels
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
        asked: what refiners want to know about an image besides its maps; it is looked at once more for that.
        cut: whether prompts over the token limit are cut instead of refused.
        overlapping: names of classes that lie over others and are read from a text each.

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
        cut: bool = False,
        overlapping: Collection[str] = (),
    ) -> None:
        self.sampler, self.attention, self.device, self.on_step = sampler, attention, device, on_step
        self.folder, self.cut, self.overlapping = folder, cut, frozenset(overlapping)
        self._works = False
        family = families.family_of(folder)
        # What the scheduler cannot do is said before the model is read.
        schedulers.build(sampler.scheduler, parts.read_json(folder / "scheduler" / "scheduler_config.json"))
        tune(device)
        if device.type == "cuda":
            CLOCK.settle = torch.cuda.synchronize
        self.model = family(folder, device, precision(sampler.dtype, device))
        if asked.levels and not family.self_maps:
            raise RecipeError(
                f"the self-attention of {family.family} has no maps", "leave selfattention out of masks.refine"
            )
        if attention is not None and attention.keys == "map" and not family.any_text:
            raise RecipeError(
                f"the attention of {family.family} can be read for the words of the prompt only",
                "set attention.keys: prompt, and name every class in the prompts",
            )
        self.factor = self.model.factor
        self.latent_size = self._latent_size()
        self.steps = sampler.num_inference_steps or self.model.steps
        self.guidance_scale = self.model.guidance if sampler.guidance_scale is None else sampler.guidance_scale
        self._schedule()
        self.asker = Asker(folder, asked, self.latent_size, device)

    @classmethod
    def from_recipe(cls, recipe: Recipe, model: Path | None, device: str, on_step: OnStep | None = None) -> Latent:
        """The generator of a recipe; ``model`` is the folder its weights were resolved to."""
        if model is None:
            raise MissingError("generator 'latent' needs a model", "--model mini, a folder, or a hub id")
        attention = recipe.attention if recipe.reads_attention() else None
        cut, over = recipe.prompts.too_long == "cut", recipe.overlapping
        return cls(model, recipe.sampler, attention, resolve(device), on_step, recipe.asked(), cut, over)

    @property
    def computed(self) -> dict[str, str]:
        """What the bits of an image depend on besides its Spec, as a `Receipt` holds it."""
        return {"device": self.device.type, "dtype": str(self.model.dtype).removeprefix("torch.")}

    def _latent_size(self) -> tuple[int, int]:
        native_h, native_w = self.model.native
        height = self.sampler.height or native_h * self.factor
        width = self.sampler.width or native_w * self.factor
        multiple = self.model.multiple
        if height % multiple or width % multiple:
            raise RecipeError(
                f"this model cannot draw {height} x {width}", f"height and width must be multiples of {multiple}"
            )
        return height // self.factor, width // self.factor

    def _schedule(self) -> Any:
        """A scheduler with its time steps set.

        Raises:
            RecipeError: it cannot make so many steps.
        """
        scheduler = schedulers.build(self.sampler.scheduler, self.model.scheduler_config)
        try:
            self.model.set_timesteps(scheduler, self.steps, self.latent_size)
        except (ValueError, IndexError, TypeError, AssertionError) as error:
            raise RecipeError(
                f"{type(scheduler).__name__} cannot make {self.steps} steps: {error}",
                "--set sampler.num_inference_steps=20",
            ) from error
        return scheduler

    def draw(self, specs: list[Spec]) -> list[Draw]:
        """One batch.

        Returns:
            per Spec the (H, W) uint8 image and (K, h, w) float32 maps on the finest grid that was read, K in the
            order of ``spec.phrases``.

        Raises:
            RecipeError: a prompt or the list of phrases is over the token limit.
        """
        return self.steered(specs)[0]

    @torch.inference_mode()
    def steered(self, specs: list[Spec], steer: Steer | None = None) -> tuple[list[Draw], Tensor]:
        """One batch as `draw` gives it, and its latents (B, C, h, w); ``steer`` changes predictions on the way."""
        with self._first_batch():
            return self._steered(specs, steer)

    @contextmanager
    def _first_batch(self) -> Iterator[None]:
        """What goes wrong in the very first batch goes wrong in every one: the model does not fit.

        Raises:
            MissingError: instead of what torch or diffusers say.
        """
        try:
            yield
            self._works = True
        except torch.cuda.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, NotImplementedError) as error:
            if self._works:
                raise
            raise MissingError(
                f"the model in {self.folder} cannot be run: {type(error).__name__}: {error}",
                "its parts do not fit each other, or it is for another task: choose another with --model",
            ) from error
        self._works = True

    def _steered(self, specs: list[Spec], steer: Steer | None) -> tuple[list[Draw], Tensor]:
        model = self.model
        scale = self.guidance_scale if steer is None else steer.guidance_scale
        guided = scale > 1 and not model.embeds_guidance

        # 1. Text: prompts, negative prompts, and the phrases of the classes.
        prompts = [spec.prompt for spec in specs]
        if not self.cut:
            model.check_tokens(prompts)
        told = model.encode(prompts)  # (B, T, D)
        taps = self._taps(specs, told, guided)
        if guided:
            told = told.after(model.encode([spec.negative_prompt for spec in specs], negative=True))

        # 2. Noise: each sample has its own, whatever the batch and the device.
        noise_generators = [torch.Generator().manual_seed(spec.seed) for spec in specs]
        shape = (model.channels, *self.latent_size)
        noise = torch.stack([torch.randn(shape, generator=g) for g in noise_generators])
        latents = noise.to(self.device)  # (B, C, h, w)

        # 3. Time steps.
        scheduler = self._schedule()
        latents = latents * getattr(scheduler, "init_noise_sigma", 1.0)
        step_options = self._step_options(scheduler, noise_generators)
        steps = len(scheduler.timesteps)

        # 4. Denoise, with the taps on during their part of the steps.
        def denoise() -> Tensor:
            x = latents
            for step, t in enumerate(scheduler.timesteps):
                if taps is not None and self.attention is not None:
                    taps.active = self.attention.steps[0] <= step / max(1, steps - 1) <= self.attention.steps[1]
                both = torch.cat([x, x]) if guided else x
                predicted = model.denoise(schedulers.scaled(scheduler, both, t), t, told, scale)
                if guided:
                    predicted = guide(predicted, scale, self.sampler.guidance_rescale)
                if steer is not None:
                    # In full precision: at the last steps the noise is so small that rounding would be divided by it.
                    predicted = steer(predicted, schedulers.scaled(scheduler, x, t), t, step / steps, scheduler)
                x = scheduler.step(predicted, t, x, **step_options).prev_sample
                if self.on_step is not None:
                    self.on_step(step + 1, steps)
            return x

        with CLOCK.measure("draw"):
            if taps is None:
                latents = denoise()
            else:
                with model.observe(taps):
                    latents = denoise()

        # 5. Decode to gray; one copy to the host.
        with CLOCK.measure("decode"):
            images, finite = (part.cpu().numpy() for part in to_gray(to_images(model.vae, latents)))

        # 6. Maps: one copy to the host.
        if taps is None or self.attention is None:
            maps = np.zeros((len(specs), 0, 1, 1), dtype=np.float32)
        else:
            maps = merge_levels(taps.maps(), self.attention.normalise_levels).cpu().numpy()

        # 7. What the chain asks besides, of the finished images.
        with CLOCK.measure("read"):
            reads = self._reads(latents, images, noise_generators)
        return [
            Draw(image=images[i], maps=maps[i], finite=bool(finite[i]), reads=reads[i]) for i in range(len(specs))
        ], latents

    def _reads(
        self, latents: Tensor, images: np.ndarray, generators: list[torch.Generator]
    ) -> list[dict[str, np.ndarray]]:
        """Answers for each image; the noise for it comes from the image's own stream."""
        with self.asker.observe(self.model.denoiser, images) as answers:
            if self.asker.asked and self.attention is not None:
                look(self.model, latents, self.model.encode([""]), generators, self.attention.timesteps)
            return answers()

    def _step_options(self, scheduler: Any, generators: list[torch.Generator]) -> dict[str, Any]:
        accepted = inspect.signature(scheduler.step).parameters
        options: dict[str, Any] = {}
        if "generator" in accepted:
            options["generator"] = generators
        if "eta" in accepted:
            options["eta"] = self.sampler.eta
        return options

    def _taps(self, specs: list[Spec], told: Conditioning, guided: bool) -> Taps | None:
        """Taps for the classes of these specs; ``told``: their prompts."""
        if self.attention is None or not specs[0].phrases:
            return None
        model, phrases = self.model, list(specs[0].phrases.values())
        tokens = told.states.shape[1]
        sources = []
        named: list[list[list[int]]] = []
        if self.attention.keys == "prompt":
            named = [model.columns(spec.prompt, phrases) for spec in specs]
            weights = torch.stack([column_weights(columns, tokens) for columns in named])  # (B, T, K)
            keys = model.keys_from(told) if model.any_text else None
            sources.append(KeySource(keys, weights.to(self.device), told.mask))
        if model.any_text:
            # A class the prompt does not name is read from a text of its own.
            sources += class_sources(model, specs[0].phrases, self.overlapping, self.device, named)
        else:
            check_named(specs, named)
        conditional = slice(len(specs), None) if guided else slice(None)
        return Taps(sources, self.latent_size, conditional, self.attention.levels)


def check_named(specs: list[Spec], named: list[list[list[int]]]) -> None:
    """Refuse prompts that do not name a class they shall show, where only the words of the prompt have maps.

    Raises:
        RecipeError: naming the prompt and the phrase.
    """
    for spec, columns in zip(specs, named, strict=True):
        for (name, phrase), found in zip(spec.phrases.items(), columns, strict=True):
            if spec.present.get(name, True) and not found:
                raise RecipeError(
                    f"the prompt '{spec.prompt[:60]}' does not name '{phrase}', whose map is read from it",
                    f"name it in the prompts, or make '{name}' optional",
                )
