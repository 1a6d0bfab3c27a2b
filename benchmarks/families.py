"""What labels cost beside bare images, for every family; and DAAM beside our taps.

    python -m benchmarks.families                       # tiny models of every family and the bundled one
    python -m benchmarks.families --only mini sd --pairs 1 --steps 2 --size 64      # a try, in a minute
    pip download daam==0.2.0 --no-deps --no-binary :all: && tar xf daam-0.2.0.tar.gz
    python -m benchmarks.families --only none --daam daam-0.2.0

`pairs/images` is labelled pairs per second (taps, DenseCRF in a process beside) over images per second of the family's
own pipeline in diffusers: same model, prompts, steps, guidance, precision and batch, in turn, the median of the pairs.
The tiny models are those of the tests, with random weights: their networks are so small that everything around them
weighs more than it does beside a real one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch

from benchmarks import speed
from benchmarks.speed import seconds
from cxrsynth import weights
from cxrsynth.device import precision, resolve
from cxrsynth.evaluate.results import Record, write
from cxrsynth.factory.batches import draws
from cxrsynth.factory.prompts import spec
from cxrsynth.factory.shard import label
from cxrsynth.generate.sampler import Latent
from cxrsynth.masks.labels import Labelling
from cxrsynth.nets import families
from cxrsynth.pool import spawn_pool
from cxrsynth.recipe import Recipe, parse
from tests.nets.tiny import BUILD, build

TEXT = "right lung, left lung, heart"
# Options of the pipelines that would change the prompt or the size.
PLAIN = {"clean_caption": False, "use_resolution_binning": False}


def figure(*measured: Any) -> Record:
    """A record of this benchmark, as `benchmarks.speed.figure` makes those of its own."""
    return {**speed.figure(*measured), "benchmark": "families"}


def recipe_of(model: Path, steps: int, size: int, batch: int) -> Recipe:
    """Lungs and heart with the usual chain; the words of the prompt are read where a family knows no others."""
    names = ("right_lung", "left_lung", "heart")
    any_text = families.family_of(model).any_text
    return parse(
        {
            "name": "speed",
            "model": str(model),
            "classes": [{"name": name, "id": i, "phrase": name.replace("_", " ")} for i, name in enumerate(names, 1)],
            "prompts": {"templates": [TEXT]},
            "sampler": {"num_inference_steps": steps, "height": size, "width": size, "batch": batch},
            "attention": {"levels": [1, 2], "keys": "map" if any_text else "prompt"},
            "masks": {"refine": ["crf", "laterality", "morphology"]},
            "curate": {"checks": [], "attempts": 1},
        }
    )


def pipeline(model: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """The family's own pipeline, its autoencoder in float32 as ours has it."""
    whole = diffusers.DiffusionPipeline.from_pretrained(model, torch_dtype=dtype, local_files_only=True).to(device)
    whole.set_progress_bar_config(disable=True)
    whole.vae.to(torch.float32)
    return whole


def bare(whole: Any, latent: Latent, recipe: Recipe) -> Callable[[], object]:
    """One batch of the pipeline, decoded."""
    import inspect

    known = inspect.signature(whole.__call__).parameters
    sampler = recipe.sampler
    options: dict[str, Any] = {
        "prompt": [TEXT] * sampler.batch,
        "num_inference_steps": sampler.num_inference_steps,
        "guidance_scale": latent.guidance_scale,
        "height": sampler.height,
        "width": sampler.width,
        "output_type": "latent",
        **{name: value for name, value in PLAIN.items() if name in known},
    }

    def run() -> object:
        latents = whole(**options).images
        if latents.ndim == 3:  # packed in patches of 2 x 2
            h, w = latent.latent_size
            latents = latents.view(len(latents), h // 2, w // 2, -1, 2, 2).permute(0, 3, 1, 4, 2, 5)
            latents = latents.reshape(len(latents), -1, h, w)
        with torch.inference_mode():
            return whole.vae.decode((latents / whole.vae.config.scaling_factor).to(whole.vae.dtype)).sample.cpu()

    return run


def beside_diffusers(name: str, model: Path, steps: int, size: int, batch: int, pairs: int) -> list[Record]:
    """Labelled pairs per second over images per second, in turn."""
    recipe, device = recipe_of(model, steps, size, batch), resolve("auto")
    latent = Latent(model, recipe.sampler, recipe.attention, device)
    theirs = bare(pipeline(model, device, precision(recipe.sampler.dtype, device)), latent, recipe)
    labelling, ratios, each = Labelling.from_recipe(recipe), [], []
    specs = [spec(recipe, index) for index in range(batch)]
    with spawn_pool(1) as pool:

        def ours() -> None:
            # Two batches: the labels of the first are made while the second is generated.
            list(label(draws([*specs, *specs], latent, batch), recipe, labelling, pool))

        ours(), theirs()  # warm
        for turn in range(pairs):
            took = {call: seconds(call) for call in ((ours, theirs) if turn % 2 else (theirs, ours))}
            ratios.append(2 * took[theirs] / took[ours])
            each.append(took[ours] / 2 / batch)
    return [
        figure("pairs/images", statistics.median(ratios), name, pairs, min(ratios), max(ratios)),
        figure("seconds_per_image", statistics.median(each), name, pairs, min(each), max(each)),
    ]


def beside_daam(source: Path, model: Path, steps: int, pairs: int) -> list[Record]:
    """DAAM's own code and our taps on one pipeline of Stable Diffusion, one image: time over bare, and what is held.

    DAAM 0.2.0 asks for diffusers 0.21.2 and transformers 4.30.2; here its code runs unchanged on the diffusers that is
    installed. spaCy, with which it parses sentences, is replaced by an empty module.
    """
    for name in ("spacy", "spacy.tokens"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["spacy"].tokens = sys.modules["spacy.tokens"]  # type: ignore[attr-defined]
    sys.modules["spacy.tokens"].Token = object  # type: ignore[attr-defined]
    sys.path.insert(0, str(source))
    from daam import trace

    device = resolve("auto")
    native = int(weights.read_json(model / "unet" / "config.json")["sample_size"])
    factor = 2 ** (len(weights.read_json(model / "vae" / "config.json")["block_out_channels"]) - 1)
    recipe = recipe_of(model, steps, native * factor, 1)
    whole = pipeline(model, device, torch.float32)
    latent = Latent(model, recipe.sampler.model_copy(update={"dtype": "float32"}), recipe.attention, device)
    plain = bare(whole, latent, recipe)
    specs, held = [spec(recipe, 0)], {"daam": 0.0, "taps": 0.0}

    def theirs() -> None:
        with torch.no_grad(), trace(whole) as traced:
            for hook in (traced, *traced.module):
                if hasattr(hook, "latent_hw"):  # it expects images of 512 or 768 pixels
                    hook.latent_hw = native * native
            plain()
            traced.compute_global_heat_map(TEXT)
            held["daam"] = sum(value.numel() * value.element_size() for _, value in traced.all_heat_maps) / 2**20

    def ours() -> None:
        drawn = latent.draw(specs)
        held["taps"] = sum(draw.maps.nbytes for draw in drawn) / 2**20

    calls: dict[str, Callable[[], object]] = {"bare": plain, "daam": theirs, "taps": ours}
    for call in calls.values():
        call()
    ratios: dict[str, list[float]] = {"daam": [], "taps": []}
    for _ in range(pairs):
        took = {name: seconds(call) for name, call in calls.items()}
        for name, found in ratios.items():
            found.append(took[name] / took["bare"])
    return [
        record
        for name, found in ratios.items()
        for record in (
            figure("time/bare", statistics.median(found), f"{name}, {model.name}", pairs, min(found), max(found)),
            figure("mib_of_maps", held[name], f"{name}, {model.name}", 1),
        )
    ]


def main() -> None:
    """Measure and add to ``results/families.json``."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="*", default=["mini", *BUILD], help="families; none: no family")
    options.add_argument("--model", type=Path, action="append", default=[], help="a model folder besides; repeatable")
    options.add_argument("--pairs", type=int, default=7)
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--size", type=int, default=128, help="pixels of the tiny models' images; mini has its own")
    options.add_argument("--batch", type=int, default=4)
    options.add_argument("--daam", type=Path, help="folder of DAAM's source, unpacked")
    options.add_argument("--out", type=Path, default=Path("results/families.json"))
    chosen = options.parse_args()

    def keep(records: list[Record]) -> None:
        write(chosen.out, records)
        for one in records:
            print(f"{one['arm']:36s} {one['metric']:18s} {one['value']:.3f}  n={one['n']}", flush=True)

    mini = weights.resolve("mini", offline=True).path
    with tempfile.TemporaryDirectory() as temporary:
        for name in chosen.only:
            if name != "none":
                model = mini if name == "mini" else build(name, Path(temporary) / name)
                size = 256 if name == "mini" else chosen.size
                keep(beside_diffusers(name, model, chosen.steps, size, chosen.batch, chosen.pairs))
        for model in chosen.model:
            native = Latent(model, recipe_of(model, 1, 512, 1).sampler, None, resolve("auto")).model
            side = native.native[0] * native.factor
            keep(beside_diffusers(model.name, model, chosen.steps, side, chosen.batch, chosen.pairs))
    if chosen.daam is not None:
        keep(beside_daam(chosen.daam, mini, chosen.steps, chosen.pairs))


if __name__ == "__main__":
    main()
