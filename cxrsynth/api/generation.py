"""Make labelled images from a recipe."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrsynth.api.dataset import Dataset
from cxrsynth.api.image import LabelledImage
from cxrsynth.api.recipes import folder_for, load_recipe

if TYPE_CHECKING:
    from cxrsynth.recipe import Recipe

Progress = Callable[[float, float], None]


def generate(
    recipe: str | Path | Recipe = "lung",
    n: int = 4,
    *,
    out: str | Path | None = None,
    seed: int | None = None,
    model: str | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    offline: bool = False,
    progress: Progress | None = None,
) -> list[LabelledImage]:
    """Generate labelled chest X-rays: the first ``n`` slots of the dataset that ``cxrsynth generate`` makes.

    Args:
        recipe: name of a bundled recipe, a YAML file, or a recipe in memory.
        n: images to ask for.
        out: dataset folder to write into, and to continue; by default nothing is kept on disk.
        seed: another seed than the recipe's.
        model: another model: a bundled name, a diffusers folder or a hub id.
        settings: other values of the recipe, for example ``{"sampler.guidance_scale": 4}``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        offline: open no connection.
        progress: told (images done, images asked for); images count in fractions while they are sampled.

    Returns:
        The images that passed curation, in order; a warning says so where they are fewer than ``n``.

    Raises:
        RecipeError: a recipe that cannot be carried out.
        MissingError: weights are missing.
        MismatchError: ``out`` holds the dataset of another recipe.

    Example:
        >>> import cxrsynth
        >>> images = cxrsynth.generate("phantom", n=2)
        >>> [image.mask.shape for image in images]
        [(256, 256), (256, 256)]
        >>> images[0].prompt
        'frontal chest x-ray, PA view, normal heart size, right lung, left lung, heart'
    """
    from cxrsynth.errors import ShardsFailed
    from cxrsynth.factory.plan import check_prompts, make_plan
    from cxrsynth.factory.run import run
    from cxrsynth.recipe import key
    from cxrsynth.store import Store

    loaded = load_recipe(recipe, {"count": n, "seed": seed, "model": model}, settings)
    with folder_for(out) as folder:
        plan = make_plan(loaded, folder, device=device, offline=offline)
        # No process is started: a script without ``if __name__ == "__main__"`` would run itself again in each.
        plan = replace(plan, job=replace(plan.job, labellers=0))
        check_prompts(plan)
        done = float(n - plan.slots)

        def advance(images: float) -> None:
            nonlocal done
            done = min(done + images, float(n))  # slots that are generated again would overshoot
            if progress is not None:
                progress(done, n)

        summary = run(plan, advance=advance)
        if summary.failed:
            reason = Store(folder).failures()[0]["error"]
            raise ShardsFailed(f"{len(summary.failed)} shards failed: {reason}", "change the recipe, or run it again")
        wanted = {key(index) for index in range(n)}
        images = [image for image in Dataset(folder) if image.key in wanted] if summary.kept else []
    if len(images) < n:
        warnings.warn(f"{n - len(images)} of {n} images were rejected at every attempt", stacklevel=2)
    return images
