"""A latent generator with an anatomy to keep to and findings to put somewhere (XReal, arXiv 2403.09240)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from cxrsynth.auxiliary_files import auxiliary_file
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.domain.atlas import open_atlas
from cxrsynth.errors import MissingError
from cxrsynth.generate.control.ahead import Ahead
from cxrsynth.generate.control.deform import deform, resized
from cxrsynth.generate.control.feather import hold, to_grid
from cxrsynth.generate.control.latent_blending import LatentBlending
from cxrsynth.generate.control.pathology import Pathology, findings_of
from cxrsynth.generate.sampler import Latent
from cxrsynth.masks.labels import Labelling, make_sample
from cxrsynth.nets import anatomy as network
from cxrsynth.nets.autoencoder import to_latents
from cxrsynth.recipe.control import Control
from cxrsynth.records import Draw, Spec

# A class is where its map reaches this part of its peak; enough to find a zone in an image whose anatomy nobody
# imposed.
ROUGH = 0.5


class Controlled:
    """Draws what a `Latent` draws, with the anatomy and the findings that each Spec names.

    Args:
        latent: the loaded model.
        control: the recipe's block.
        classes: names of the recipe's classes, in the order of ``Draw.control``.
        strict: whether a finding that an image cannot carry is an error; otherwise the draw says so.
        labelling: finds the anatomy of an image that none was imposed on, where a finding shall be put into it; without
            one a rough reading of the attention has to do.

    Raises:
        MissingError: no anatomy network, or no pathology adapter where one is named.
        MismatchError: the adapter was trained on another model.
        RecipeError: findings by words without any anatomy to find them in.
    """

    def __init__(
        self,
        latent: Latent,
        control: Control,
        classes: Sequence[str],
        strict: bool = False,
        labelling: Labelling | None = None,
    ) -> None:
        self.latent, self.control, self.classes, self.labelling = latent, control, tuple(classes), labelling
        self.height, self.width = (side * latent.factor for side in latent.latent_size)
        self.pathology = Pathology(latent, control.inpaint, classes, strict)
        if control.pathology:
            self.pathology.equip()  # what is wrong with it is said before any image is generated
        self.ahead = Ahead(self.anatomy_of)
        self.net: network.AnatomyNet | None = None
        if control.anatomy is not None:
            self.net = network.load(auxiliary_file(control.anatomy.network, "network")).to(latent.device)
            unknown = [name for name in self.net.classes if name not in CLASSES]
            if unknown:
                raise MissingError(
                    f"the anatomy network reads '{unknown[0]}', which no label map has",
                    f"train one with classes among {', '.join(CLASSES)}",
                )

    @property
    def computed(self) -> dict[str, str]:
        """As that of the model."""
        return self.latent.computed

    def draw(self, specs: list[Spec]) -> list[Draw]:
        """One batch, in order.

        Raises:
            UsageError: a label map or a region that does not fit, with what to do.
        """
        return self.render(specs, [self.ahead.take(spec) for spec in specs])

    def prepare(self, specs: Sequence[Spec]) -> None:
        """Deform the label maps of these Specs, some of a next batch, while another is generated."""
        self.ahead.prepare(specs)

    def anatomy_of(self, spec: Spec) -> np.ndarray | None:
        """(H, W) uint8 ids of the anatomy a Spec imposes, at the size of the image; None where it imposes none."""
        how = (spec.control or {}).get("anatomy")
        if how is None or self.control.anatomy is None:
            return None
        mask = open_atlas(self.control.anatomy.source, self.control.anatomy.splits).load(how["key"])
        return deform(resized(mask, self.height, self.width, f"the label map '{how['key']}'"), how)

    def render(self, specs: list[Spec], maps: Sequence[np.ndarray | None]) -> list[Draw]:
        """One batch with given label maps, (H, W) uint8 ids each at the size of the image, all or none."""
        with Counting(self.latent, 1 + max(len(findings_of(spec)) for spec in specs)):
            known = [mask for mask in maps if mask is not None]
            draws, _ = self.latent.steered(specs, self._anatomy(known) if known else None)
            wanted = [bool(findings_of(spec)) for spec in specs]
            seen = (
                list(maps)
                if known
                else [self.see(draw) if has else None for draw, has in zip(draws, wanted, strict=True)]
            )
            draws, shown, layers = self.pathology.put(specs, draws, seen)
        return [
            replace(draw, control=self.planes(mask if known else None, own))
            for draw, mask, own in zip(draws, shown, layers, strict=True)
        ]

    def see(self, draw: Draw) -> np.ndarray:
        """(H, W) uint8 ids of the anatomy that the recipe's own labels show in an image, or roughly its attention."""
        found = np.zeros((self.height, self.width), np.uint8)
        if self.labelling is not None and len(draw.maps):
            for name, mask in zip(self.classes, make_sample(draw, self.labelling).layers, strict=True):
                if name in CLASSES:
                    found[mask] = CLASSES[name]
        return found if found.any() else self.rough(draw.maps, self.classes)

    def rough(self, maps: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        """(K, h, w) class maps -> (H, W) uint8 ids of the anatomy among K classes; nothing where there are no maps."""
        size = (self.width, self.height)
        best = np.full((self.height, self.width), ROUGH, np.float32)
        found = np.zeros((self.height, self.width), np.uint8)
        for name, plane in zip(classes, maps.astype(np.float32), strict=False):
            if name in CLASSES:
                big = np.asarray(Image.fromarray(plane / max(float(plane.max()), 1e-8)).resize(size))
                found[big > best] = CLASSES[name]
                best = np.maximum(best, big)
        return found

    def _anatomy(self, maps: list[np.ndarray]) -> LatentBlending:
        assert self.net is not None and self.control.anatomy is not None  # maps come from it  # noqa: PT018
        how = self.control.anatomy
        planes = np.stack([[mask == CLASSES[name] for name in self.net.classes] for mask in maps])  # (B, K, H, W)
        with torch.inference_mode():
            target = to_latents(self.latent.model.vae, self.net.draw(planes).float())
        weights = [hold(mask, how.inside, how.outside, how.soft) for mask in maps]
        weight = to_grid(weights, self.latent.latent_size, "area").to(self.latent.device)
        return LatentBlending(target, weight, how.until, self.latent.guidance_scale, how.fade)

    def planes(self, mask: np.ndarray | None, findings: dict[str, np.ndarray]) -> np.ndarray:
        """(K, H, W) bool of what was imposed, in the order of the recipe's classes; the rest is empty."""
        found = np.zeros((len(self.classes), self.height, self.width), bool)
        for k, name in enumerate(self.classes):
            if name in findings:
                found[k] = findings[name]
            elif mask is not None and name in CLASSES:
                found[k] = mask == CLASSES[name]
            elif mask is not None and name == "lungs":
                found[k] = (mask == CLASSES["right_lung"]) | (mask == CLASSES["left_lung"])
        return found


class Counting:
    """Steps of several passes as steps of one, for the progress of a sample."""

    def __init__(self, latent: Latent, passes: int) -> None:
        self.latent, self.passes, self.before = latent, passes, latent.on_step

    def __enter__(self) -> None:
        before, done = self.before, 0

        def on_step(step: int, steps: int) -> None:
            nonlocal done
            done += 1
            if before is not None:
                before(done, steps * self.passes)

        self.latent.on_step = on_step

    def __exit__(self, *why: object) -> None:
        self.latent.on_step = self.before
