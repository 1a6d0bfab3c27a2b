"""Looking at a finished image once more: what the network answers to refiners that ask.

Drawn and real images go the same way: a little noise on their latents, one pass of the UNet per timestep. Answers are
read beside the pass; the image was finished before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cxrsynth.auxiliary_files import auxiliary_file, read_name
from cxrsynth.errors import UsageError
from cxrsynth.nets import mask_head as heads
from cxrsynth.nets import schedulers
from cxrsynth.nets.conditioning import Conditioning
from cxrsynth.nets.families.base import Model
from cxrsynth.nets.selfmaps import SelfMaps
from cxrsynth.records import Asked
from cxrsynth.weights import digest

NOTHING: dict[str, np.ndarray] = {}


class Asker:
    """Answers what a chain asks about images, with a loaded model.

    Args:
        folder: of the model.
        asked: what to answer.
        latent_size: (h, w) of the latents.

    Raises:
        MissingError, MismatchError: a mask head is not there, or was fitted on another model.
    """

    def __init__(self, folder: Path, asked: Asked, latent_size: tuple[int, int], device: torch.device) -> None:
        self.asked, self.latent_size, self.device = asked, latent_size, device
        SelfMaps(latent_size, asked.levels)  # too fine a grid is said before any image is generated
        paths = [auxiliary_file(name, "head") for name in asked.heads]
        self.heads = {read_name(path): heads.load(path, digest(folder), device) for path in paths}

    @contextmanager
    def observe(self, unet: nn.Module, images: np.ndarray) -> Iterator[Callable[[], list[dict[str, np.ndarray]]]]:
        """Read every pass of ``unet`` over these images inside the block.

        Args:
            images: (B, H, W) uint8.

        Yields:
            A function that gives the answers for each image as `Draw.reads` holds them; call it after the passes.
        """
        if not self.asked:
            yield lambda: [NOTHING for _ in images]
            return
        with ExitStack() as stack:
            maps = SelfMaps(self.latent_size, self.asked.levels)
            if self.asked.levels:
                stack.enter_context(maps.observe(unet))
            said: dict[str, list[Tensor]] = {name: [] for name in self.heads}
            if self.heads:
                features = stack.enter_context(heads.observe_features(unet))
                pictures = heads.as_input(images, self.device)

                def decode(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
                    for name, head in self.heads.items():
                        said[name].append(head(features, pictures).softmax(dim=1)[:, 1:])  # (B, C, h, w)

                stack.callback(unet.register_forward_hook(decode).remove)
            yield lambda: answers(maps.maps(), said, len(images))


def answers(maps: dict[int, np.ndarray], said: dict[str, list[Tensor]], images: int) -> list[dict[str, np.ndarray]]:
    """Batches of answers, those of mask heads one per pass -> one mapping per image."""
    batches = {f"self_{level}": batch for level, batch in maps.items()}
    for name, posteriors in said.items():
        batches[name] = torch.stack(posteriors).mean(dim=0).cpu().numpy().astype(np.float16)
    return [{name: batch[i] for name, batch in batches.items()} for i in range(images)]


def look(
    model: Model,
    clean: Tensor,
    words: Conditioning,
    generators: Sequence[torch.Generator],
    timesteps: Sequence[int],
    noises: int = 1,
) -> None:
    """Send images through the denoiser, with each noise at every timestep; those who observe it see them.

    Args:
        clean: (B, C, h, w) latents.
        words: one text, the same for all images.
        generators: one per image; its noise depends on nothing else.

    Raises:
        UsageError: a timestep the model was not trained with.
    """
    known = schedulers.trained_steps(model.scheduler_config)
    if any(not 0 <= t < known for t in timesteps):
        raise UsageError(f"timesteps {list(timesteps)} are not all from 0 to {known - 1}", "try --timestep 100")
    told = words.expand(len(clean))
    for _ in range(noises):
        noise = torch.stack([torch.randn(clean.shape[1:], generator=one) for one in generators]).to(clean.device)
        for t in timesteps:
            steps = torch.full((len(clean),), t, device=clean.device)
            model.denoise(schedulers.add_noise(model.scheduler_config, clean, noise, steps), steps, told, 1.0)
