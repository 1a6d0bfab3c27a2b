"""A synthetic chest with exact masks: no weights, milliseconds an image, for tests, documents and trying recipes.

It follows a few words of the prompt (cardiomegaly, pleural effusion, opacity or pneumonia with side and zone, child,
AP) and gives maps that are as coarse and noisy as attention, so that everything behind a generator has work to do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr
from scipy import ndimage

from cxrsynth.errors import RecipeError, UsageError
from cxrsynth.generate.phantom.anatomy import Chest, build
from cxrsynth.generate.phantom.exposure import expose
from cxrsynth.generate.phantom.findings import read
from cxrsynth.recipe import Recipe
from cxrsynth.records import Draw, Spec

OnStep = Callable[[int, int], None]


class Phantom(BaseModel):
    """Draws chests; an image depends on its Spec's prompt and seed alone, not on the batch.

    Attributes:
        height: rows of the image, pixels.
        width: columns of the image, pixels.
        noise: standard deviation of the image's grain, fraction of white.
        stride: pixels per cell of the maps.
        blur: how far attention spreads, cells.
        map_noise: attention that a class gets where it is not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(256, ge=32, le=2048)
    width: int = Field(256, ge=32, le=2048)
    noise: float = Field(0.02, ge=0, le=0.5)
    stride: int = Field(8, ge=1, le=64)
    blur: float = Field(0.7, ge=0)
    map_noise: float = Field(0.02, ge=0, le=1)

    _on_step: OnStep | None = PrivateAttr(None)

    @classmethod
    def from_recipe(cls, recipe: Recipe, model: Path | None, device: str, on_step: OnStep | None = None) -> Phantom:
        """The phantom of a recipe, which gives the size; it needs neither model nor device.

        Raises:
            RecipeError: the chain asks a network, and there is none.
        """
        if recipe.asked():
            raise RecipeError(
                "the phantom has no network that selfattention or mask head could ask",
                "leave these refiners out, or set generator: latent",
            )
        size = {name: value for name in ("height", "width") if (value := getattr(recipe.sampler, name)) is not None}
        phantom = cls(**size)
        phantom._on_step = on_step
        return phantom

    def draw(self, specs: list[Spec]) -> list[Draw]:
        """One batch, in order.

        Raises:
            UsageError: a Spec names a class the phantom has no mask for; the hint lists those it has.
        """
        draws = [self._draw(spec) for spec in specs]
        if self._on_step is not None:
            self._on_step(1, 1)
        return draws

    def _draw(self, spec: Spec) -> Draw:
        rng = np.random.default_rng(spec.seed)
        findings = read(spec.prompt)
        chest = build(findings, rng, self.height, self.width)
        image = expose(chest, findings, rng, self.noise)
        known = masks(chest, findings.cardiomegaly)
        for name in spec.phrases:
            if name not in known:
                raise UsageError(f"the phantom has no mask for class '{name}'", f"it knows: {', '.join(known)}")
        control = np.stack([known[name] for name in spec.phrases])
        return Draw(np.rint(image * 255.0).astype(np.uint8), self._maps(control, rng), control)

    def _maps(self, control: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(K, H, W) bool -> (K, h, w) float32, what attention would make of it.

        One softmax spreads every pixel's attention over all classes, so where classes overlap they share it.
        """
        size = (max(1, self.width // self.stride), max(1, self.height // self.stride))
        coarse = [Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BOX) for mask in control]
        spread = ndimage.gaussian_filter(np.stack([np.asarray(one) for one in coarse]), (0, self.blur, self.blur))
        shared = 0.6 * spread / np.maximum(spread.sum(axis=0), 1.0)
        grain = self.map_noise * np.abs(rng.standard_normal(shared.shape, np.float32))
        return (shared * (1.0 + 2.0 * grain) + grain).astype(np.float32)


def masks(chest: Chest, cardiomegaly: bool) -> dict[str, np.ndarray]:
    """Class name -> (H, W) bool, exactly what was drawn; findings that are not there are empty.

    A lung is its pleural space: an opacity or an effusion lies in it. The heart and what it hides are not lung.
    """
    right, left = chest.sides["right"].lung > 0, chest.sides["left"].lung > 0
    heart = chest.heart > 0
    nothing = np.zeros_like(heart)
    return {
        "right_lung": right,
        "left_lung": left,
        "lungs": right | left,
        "heart": heart,
        "cardiomegaly": heart if cardiomegaly else nothing,
        "opacity": np.any([patch > 0 for patch in chest.opacities], axis=0) if chest.opacities else nothing,
        "effusion": np.any([fluid > 0 for fluid in chest.effusions], axis=0) if chest.effusions else nothing,
        "right_clavicle": chest.clavicles["right"] > 0,
        "left_clavicle": chest.clavicles["left"] > 0,
    }
