"""A latent generator with an anatomy to keep to and findings to put somewhere (XReal, arXiv 2403.09240)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cxrsynth.domain import regions
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.domain.atlas import open_atlas
from cxrsynth.domain.regions import edge
from cxrsynth.errors import MissingError, RecipeError
from cxrsynth.generate.control.deform import deform, resized
from cxrsynth.generate.control.feather import hold, paste, to_grid
from cxrsynth.generate.control.latent_blending import LatentBlending
from cxrsynth.generate.sampler import Latent
from cxrsynth.nets import anatomy as network
from cxrsynth.nets.autoencoder import to_latents
from cxrsynth.nets.pathology import Adapter, attach
from cxrsynth.recipe.control import Control
from cxrsynth.records import Draw, Spec
from cxrsynth.weights import auxiliary_file, digest

# A class is where its map reaches this part of its peak; enough to find a zone in an image whose anatomy nobody
# imposed.
ROUGH = 0.5


class Controlled:
    """Draws what a `Latent` draws, with the anatomy and the findings that each Spec names.

    Args:
        latent: the loaded model.
        control: the recipe's block.
        classes: names of the recipe's classes, in the order of ``Draw.control``.

    Raises:
        MissingError: no anatomy network, or no pathology adapter where one is named.
        MismatchError: the adapter was trained on another model.
        RecipeError: findings by words without any anatomy to find them in.
    """

    def __init__(self, latent: Latent, control: Control, classes: Sequence[str]) -> None:
        self.latent, self.control, self.classes = latent, control, tuple(classes)
        self.height, self.width = (side * latent.factor for side in latent.latent_size)
        self.adapter: Adapter | None = None
        if control.pathology:
            self._equip()  # what is wrong with it is said before any image is generated
        self.net: network.AnatomyNet | None = None
        if control.anatomy is not None:
            self.net = network.load(auxiliary_file(control.anatomy.network, "network")).to(latent.device)
            unknown = [name for name in self.net.classes if name not in CLASSES]
            if unknown:
                raise MissingError(
                    f"the anatomy network reads '{unknown[0]}', which no label map has",
                    f"train one with classes among {', '.join(CLASSES)}",
                )

    def draw(self, specs: list[Spec]) -> list[Draw]:
        """One batch, in order.

        Raises:
            UsageError: a label map or a region that does not fit, with what to do.
        """
        return self.render(specs, [self.anatomy_of(spec) for spec in specs])

    def anatomy_of(self, spec: Spec) -> np.ndarray | None:
        """(H, W) uint8 ids of the anatomy a Spec imposes, at the size of the picture; None where it imposes none."""
        how = (spec.control or {}).get("anatomy")
        if how is None or self.control.anatomy is None:
            return None
        mask = open_atlas(self.control.anatomy.source, self.control.anatomy.splits).load(how["key"])
        return deform(resized(mask, self.height, self.width, f"the label map '{how['key']}'"), how)

    def render(self, specs: list[Spec], maps: Sequence[np.ndarray | None]) -> list[Draw]:
        """One batch with given label maps, (H, W) uint8 ids each at the size of the picture, all or none."""
        passes = 1 + max(len(findings_of(spec)) for spec in specs)
        with self._counting(passes):
            known = [mask for mask in maps if mask is not None]
            draws, latents = self.latent.steered(specs, self._anatomy(known) if known else None)
            shown = list(maps) if known else [self.rough(draw.maps, self.classes) for draw in draws]
            return self._edit(specs, draws, latents, shown, imposed=bool(known))

    def edit(self, images: Sequence[np.ndarray], maps: Sequence[np.ndarray], specs: list[Spec]) -> list[Draw]:
        """Put the findings of Specs into images that are there.

        Args:
            images: (H, W) uint8 each, at the size of the picture.
            maps: (H, W) uint8 ids each, of the images.
        """
        draws = [Draw(image, np.zeros((0, 1, 1), np.float32)) for image in images]
        gray = torch.from_numpy(np.stack(images).astype(np.float32) / 127.5 - 1)[:, None]
        with self._counting(max(len(findings_of(spec)) for spec in specs)):
            return self._edit(specs, draws, self.encode(gray.to(self.latent.device)), maps, imposed=True)

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) float32 in -1..1 -> (B, C, h, w) float32 latents."""
        return to_latents(self.latent.model.vae, images.float())

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
        target = self.encode(self.net.draw(planes))
        weights = [hold(mask, how.inside, how.outside, how.soft) for mask in maps]
        weight = to_grid(weights, self.latent.latent_size, "area").to(self.latent.device)
        return LatentBlending(target, weight, how.until, self.latent.guidance_scale, how.fade)

    def _edit(
        self,
        specs: list[Spec],
        draws: list[Draw],
        latents: Tensor,
        maps: Sequence[np.ndarray | None],
        imposed: bool,
    ) -> list[Draw]:
        """Put in the first finding of every image, then the second of those that have one, and so on."""
        draws, latents = list(draws), latents.clone()
        layers: list[dict[str, np.ndarray]] = [{} for _ in specs]
        for turn in range(max(len(findings_of(spec)) for spec in specs)):
            who = [i for i, spec in enumerate(specs) if len(findings_of(spec)) > turn]
            entries = [findings_of(specs[i])[turn] for i in who]
            places = [self.region(entry, maps[i]) for i, entry in zip(who, entries, strict=True)]
            # A short batch is filled up, so that an image does not depend on how many beside it have a finding.
            full = list(range(len(who))) + [len(who) - 1] * (len(specs) - len(who))
            asked = [self._asked(specs[who[j]], entries[j]) for j in full]
            feather = self.control.inpaint.feather
            free = to_grid([edge(places[j], feather * self.width) > 0 for j in full], self.latent.latent_size, "max")
            keep = latents[[who[j] for j in full]]
            blending = LatentBlending(keep, (1 - free).to(self.latent.device), 1.0, self.control.inpaint.guidance_scale)
            with self._equip():
                new, new_latents = self.latent.steered(asked, blending)
            for j, i in enumerate(who):
                image = paste(draws[i].image, new[j].image, places[j], entries[j]["severity"], feather)
                maps_ = draws[i].maps.copy()
                label = entries[j]["label"]
                # Without attention there are no maps; an image from outside has none either.
                if label in self.classes and len(maps_) == len(self.classes):
                    maps_[self.classes.index(label)] = new[j].maps[self.classes.index(label)]
                draws[i] = replace(
                    draws[i], image=image, maps=maps_, finite=draws[i].finite and new[j].finite, reads=new[j].reads
                )
                latents[i] = new_latents[j]
                before = layers[i].get(label)
                layers[i][label] = places[j] if before is None else before | places[j]
        return [
            replace(draw, control=self.planes(mask if imposed else None, own))
            for draw, mask, own in zip(draws, maps, layers, strict=True)
        ]

    def _equip(self) -> AbstractContextManager[None]:
        """The adapter that knows findings, put on the denoiser the first time; it works inside the block only."""
        name = self.control.inpaint.adapter
        if name is None:
            return nullcontext()
        if self.adapter is None:
            self.adapter = attach(
                auxiliary_file(name, "adapter"), self.latent.model.denoiser, digest(self.latent.folder)
            )
        return self.adapter.active()

    def _asked(self, spec: Spec, entry: dict[str, Any]) -> Spec:
        """The Spec of one finding: its own words and its own noise."""
        inpaint = self.control.inpaint
        prompt = inpaint.words(entry["finding"], entry["region"])
        seed = (spec.seed + entry["seed"]) % 2**63
        return replace(spec, prompt=prompt, negative_prompt=inpaint.negative_prompt, seed=seed)

    def region(self, entry: dict[str, Any], mask: np.ndarray | None) -> np.ndarray:
        """(H, W) bool of one finding.

        Raises:
            UsageError: it is nowhere in this image, or outside the body.
            RecipeError: there is no anatomy to find it in.
        """
        if mask is None or not mask.any():
            raise RecipeError(
                f"there is no anatomy to find '{entry['region']}' in",
                "impose one (control.anatomy), or read attention (masks.use: attention)",
            )
        where = entry["region"]
        if not isinstance(where, str):
            return regions.box_region(tuple(where), mask)
        if where.lower().endswith(".png"):
            return regions.file_region(Path(where), mask)
        found = regions.resolve(where, mask)
        return regions.blob(found, entry["seed"]) if entry["shape"] == "blob" else found

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

    def _counting(self, passes: int) -> Any:
        return _Counting(self.latent, passes)


class _Counting:
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


def findings_of(spec: Spec) -> list[dict[str, Any]]:
    """The findings that a Spec asks for."""
    return list((spec.control or {}).get("findings", []))
