"""What adapting the bundled model changes: the same held-out images, the same prompts, before and after.

    python -m benchmarks.adaptation data/train256 recipes/bench/adaptation.yaml runs/hearts-lora runs/hearts-full \
      --generated out/hearts --segmenter runs/segmenter --classifier runs/classifier      # make bench-adaptation

Declared before the first run: the denoising loss on held-out images, the least noisy of all figures; then, for hearts,
what it is for: the AUROC of the heart size against the prompt, by a segmenter that learned from real images; then
KID to the held-out images. Everything is paired: the same images, noises and timesteps; the same prompts and seeds.
Settings were never chosen on these images. Writes results/adaptation.json.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from cxrsynth.train.tasks.diffusion.images import has_word

from cxrsynth.data.reports import words
from cxrsynth.device import resolve as find_device
from cxrsynth.domain.anatomy import cardiothoracic
from cxrsynth.domain.lexicon import words_on_findings
from cxrsynth.evaluate.distances import interval, kid
from cxrsynth.evaluate.features import FeatureNet, autoencoder_net, classifier_net
from cxrsynth.evaluate.images import Group, group
from cxrsynth.evaluate.results import Record, record, write
from cxrsynth.nets import classifier as classifiers
from cxrsynth.nets import segmenter as segmenters
from cxrsynth.nets.autoencoder import encode
from cxrsynth.nets.base import load_base
from cxrsynth.nets.noise import target, weigh
from cxrsynth.nets.segmenter import Segmenter
from cxrsynth.nets.text import ids
from cxrsynth.recipe.settings import load_as
from cxrsynth.records import Row
from cxrsynth.statistics import auroc, bootstrap
from cxrsynth.store import Store
from cxrsynth.train.tasks.diffusion.config import DiffusionRecipe
from cxrsynth.weights import resolve

BATCH = 16
NOISES = 4  # of each held-out image
MOST = 96  # held-out images
BASE = "mini"


@torch.no_grad()
def losses(model: str, images: Group, recipe: DiffusionRecipe) -> np.ndarray:
    """(N,) float64 the training loss of each image, mean over `NOISES` noises and timesteps that all models share."""
    base = load_base(resolve(model, offline=True), recipe.what, recipe.noise, recipe.images.size)
    latents = encode(base.vae, images.images)
    rng = np.random.default_rng(0)
    steps = base.schedule.config.num_train_timesteps
    total = np.zeros(len(images.rows))
    for _ in range(NOISES):
        noise = torch.from_numpy(rng.standard_normal(latents.shape, np.float32))
        times = torch.from_numpy(rng.integers(steps, size=len(latents)))
        for start in range(0, len(latents), BATCH):
            here = slice(start, start + BATCH)
            text = ids(base.tokenizer, [words(row, recipe.words) for row in images.rows[here]])
            noisy = base.schedule.add_noise(latents[here], noise[here], times[here])
            with torch.autocast("cpu", torch.bfloat16):
                states = base.text_encoder(text).last_hidden_state
                prediction = base.unet(noisy, times[here], states).sample.float()
            error = (prediction - target(base.schedule, latents[here], noise[here], times[here])).pow(2)
            weight = weigh(base.schedule, times[here], recipe.noise.snr_gamma)
            total[here] += (error.mean(dim=(1, 2, 3)) * weight).numpy() / NOISES
    return total


def hearts(generated: Group, segmenter: Segmenter) -> np.ndarray:
    """(N, 2) float64: cardiothoracic ratio of each image, NaN where no chest is found, and 1 where the prompt asked for
    a large heart, 0 for a normal one."""
    numbers = {name: i for i, name in enumerate(segmenter.classes, 1)}
    ratios = [cardiothoracic(mask, numbers) for mask in generated.masks(segmenter)]
    asked = [has_word(words_on_findings(row), ("cardiomegaly",)) for row in generated.rows]
    return np.stack([ratios, asked], axis=1).astype(float)


def heart_figures(arms: dict[str, np.ndarray], name: str) -> list[Record]:
    """AUROC of the heart size against the prompt and mean ratios, of every arm and as paired differences."""
    records = []
    for arm, values in arms.items():
        seen = values[~np.isnan(values[:, 0])]
        records.append(figure(name, arm, "heart_size_auroc", bootstrap(seen, statistic=auroc), len(seen)))
        for metric, asked in (("ctr_asked_large", 1), ("ctr_asked_normal", 0)):
            ratios = seen[seen[:, 1] == asked, 0]
            records.append(figure(name, arm, metric, bootstrap(ratios), len(ratios)))
        if arm != BASE:
            both = np.stack([arms[BASE][:, 0], values[:, 0], values[:, 1]], axis=1)
            both = both[~np.isnan(both).any(axis=1)]
            change = bootstrap(both, statistic=lambda x: auroc(x[:, 1:]) - auroc(x[:, [0, 2]]))
            records.append(figure(name, f"{arm} - {BASE}", "heart_size_auroc", change, len(both)))
    return records


def loss_figures(arms: dict[str, np.ndarray], images: Group, name: str) -> list[Record]:
    """Loss of every arm on held-out images, and paired differences, resampled by patient."""
    patients = [str(row.get("patient") or row["key"]) for row in images.rows]
    records = []
    for arm, values in arms.items():
        records.append(figure(name, arm, "held_out_loss", bootstrap(values, patients), len(values)))
        if arm != BASE:
            change = bootstrap(values - arms[BASE], patients)
            records.append(figure(name, f"{arm} - {BASE}", "held_out_loss", change, len(values)))
    return records


def distance_figures(arms: dict[str, Group], images: Group, nets: list[FeatureNet], name: str) -> list[Record]:
    """KID of every arm to the held-out images in every net, and paired differences."""
    records = []
    for net in nets:
        real, before = images.features(net), arms[BASE].features(net)
        for arm, part in arms.items():
            made, metric = part.features(net), f"kid_{net.name}"
            records.append(figure(name, arm, metric, interval(kid, real, made), len(made)))
            if arm != BASE:

                def change(real: np.ndarray, both: np.ndarray) -> float:
                    middle = both.shape[1] // 2
                    return kid(real, both[:, middle:]) - kid(real, both[:, :middle])

                figures = interval(change, real, np.concatenate([before, made], axis=1))
                records.append(figure(name, f"{arm} - {BASE}", metric, figures, len(made)))
    return records


def figure(name: str, arm: str, metric: str, figures: tuple[float, float, float], n: int) -> Record:
    """A record of this benchmark; ``name`` is what was adapted to."""
    made = record("adaptation", arm, name, metric, figures, n)
    return {**made, "command": f"python -m benchmarks.adaptation {' '.join(sys.argv[1:])}"}


def same_prompts(folders: list[Path]) -> None:
    """Refuse synthetic images that cannot be paired."""
    prompts = [[row["prompt"] for row in Store(folder).rows()] for folder in folders]
    if any(found != prompts[0] for found in prompts):
        sys.exit(f"{', '.join(map(str, folders))} were not generated from the same prompts")


def main(
    data: Annotated[Path, typer.Argument(help="Ingested images.")],
    recipe: Annotated[Path, typer.Argument(help="Recipe that all runs were adapted by.")],
    runs: Annotated[list[Path], typer.Argument(help="Run folders of train-diffusion; their names are those of arms.")],
    generated: Annotated[
        Path | None, typer.Option(help="Folder with the synthetic images of mini and of every run.")
    ] = None,
    segmenter: Annotated[Path, typer.Option(help="Run folder of train-seg on real images.")] = Path("runs/segmenter"),
    classifier: Annotated[Path, typer.Option(help="Run folder of train-cls on real images.")] = Path("runs/classifier"),
    split: Annotated[str, typer.Option(help="Held-out images.")] = "test",
) -> None:
    """Measure all models on the same images and prompts."""
    config = load_as(DiffusionRecipe, recipe, {})
    models = {BASE: BASE, **{run.name: str(run / "model") for run in runs}}

    def wanted(row: Row) -> bool:
        named = all(has_word(str(row.get(column) or ""), some) for column, some in config.images.only.items())
        return named and row.get("source") in config.images.shares

    images = group(data, split, wanted).some(MOST)
    records = loss_figures({arm: losses(model, images, config) for arm, model in models.items()}, images, config.name)
    if generated is not None:
        same_prompts([generated / arm for arm in models])
        made = {arm: group(generated / arm, name=arm) for arm in models}
        device = find_device("auto")
        labeller = segmenters.load(segmenter, device)
        records += heart_figures({arm: hearts(part, labeller) for arm, part in made.items()}, config.name)
        nets = [autoencoder_net(resolve(BASE).path), classifier_net(classifiers.load(classifier, device))]
        records += distance_figures(made, images, nets, config.name)
    write(Path("results/adaptation.json"), records)
    for item in records:
        print(item["arm"], item["metric"], item["value"], item["lo"], item["hi"], item["n"])


if __name__ == "__main__":
    typer.run(main)
