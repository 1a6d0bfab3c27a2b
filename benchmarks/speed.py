"""What the factory costs: taps, memory, start-up, and DenseCRF against the time of a run.

    python -m benchmarks.speed            # the bundled model, 256 px
    python -m benchmarks.speed --model DIR

Ratios are taken side by side in one process, pair by pair, and the median is given: the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from cxrsynth import weights
from cxrsynth.device import resolve
from cxrsynth.evaluate.results import Record, record, write
from cxrsynth.factory.batches import draws
from cxrsynth.factory.prompts import spec
from cxrsynth.factory.shard import label
from cxrsynth.generate.sampler import Latent
from cxrsynth.masks.labels import Labelling, make_sample
from cxrsynth.pool import spawn_pool
from cxrsynth.recipe import Recipe, load

COMMAND = "make bench-speed"


def seconds(call: Any) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def figure(metric: str, value: float, arm: str, n: int, lo: float = math.nan, hi: float = math.nan) -> Record:
    """A record of this benchmark; lo and hi are the smallest and largest of the runs, where there were several."""
    made = record("speed", arm, "", metric, (value, lo, hi), n)
    bounds = {name: None if math.isnan(made[name]) else made[name] for name in ("lo", "hi")}
    return {**made, **bounds, "command": COMMAND}


def taps(folder: Path, recipe: Recipe, pairs: int) -> list[Record]:
    """Images per second with taps over images per second without, same pictures, in turn."""
    device = resolve("auto")
    batch = [spec(recipe, index) for index in range(recipe.sampler.batch)]
    tapped = Latent(folder, recipe.sampler, recipe.attention, device)
    plain = Latent(folder, recipe.sampler, None, device)
    for one in (tapped, plain):
        one.draw(batch)  # warm
    times = []
    for turn in range(pairs):
        order = (tapped, plain) if turn % 2 else (plain, tapped)
        took = {id(one): seconds(lambda one=one: one.draw(batch)) for one in order}
        times.append((took[id(tapped)], took[id(plain)]))
    ratios = sorted(b / a for a, b in times)
    each = statistics.median(a for a, _ in times) / len(batch)
    return [
        figure("ratio", statistics.median(ratios), "taps/plain", pairs, ratios[0], ratios[-1]),
        figure("seconds_per_image", each, "taps", pairs),
    ]


def memory(folder: Path, recipe: Recipe, samples: int) -> list[Record]:
    """Resident memory after the first tenth of the samples and after the last, in MiB; few steps, all the stages."""
    fast = recipe.model_copy(update={"sampler": recipe.sampler.model_copy(update={"num_inference_steps": 2})})
    generator = Latent(folder, fast.sampler, fast.attention, resolve("auto"), asked=fast.asked())
    process = psutil.Process()
    early = late = 0.0
    with spawn_pool(1) as pool:
        specs = (spec(fast, index) for index in range(samples))
        stream = label(draws(specs, generator, fast.sampler.batch), fast, Labelling.from_recipe(fast), pool)
        for done, _sample in enumerate(stream, start=1):
            if done == samples // 10:
                early = process.memory_info().rss / 2**20
        late = process.memory_info().rss / 2**20
    return [
        figure("rss_mib", early, f"after {samples // 10} samples", samples),
        figure("rss_mib", late, f"after {samples} samples", samples),
    ]


def start_up(model: str, runs: int) -> list[Record]:
    """Seconds of ``--help``, and from the command to the first finished sample of a one-sample run."""
    entry = [sys.executable, "-c", "from cxrsynth.cli import main; main()"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": True}
    helps = [seconds(lambda: subprocess.run([*entry, "--help"], **quiet)) for _ in range(runs)]
    firsts = []
    for _ in range(max(3, runs // 3)):
        with tempfile.TemporaryDirectory() as out:
            command = [
                *entry,
                "generate",
                "-p",
                "lung",
                "--model",
                model,
                "-n",
                "1",
                "-o",
                f"{out}/d",
                "--set",
                "sampler.batch=1",
            ]
            firsts.append(seconds(lambda command=command: subprocess.run(command, **quiet)))
    return [
        figure("seconds", statistics.median(helps), "--help", runs, min(helps), max(helps)),
        figure("seconds", statistics.median(firsts), "command to first sample", len(firsts), min(firsts), max(firsts)),
    ]


def crf(folder: Path, recipe: Recipe, pairs: int) -> list[Record]:
    """Wall time of a run with DenseCRF in the pool over the same run without it."""
    generator = Latent(folder, recipe.sampler, recipe.attention, resolve("auto"), asked=recipe.asked())
    specs = [spec(recipe, index) for index in range(2 * recipe.sampler.batch)]
    chain = tuple(entry for entry in recipe.masks.refine if entry["use"] != "crf")
    full = Labelling.from_recipe(recipe)
    without = full.model_copy(update={"refine": chain})
    ratios, each = [], []
    with spawn_pool(max(1, (os.cpu_count() or 2) - 1)) as pool:

        def run(labelling: Labelling) -> float:
            return seconds(lambda: list(label(draws(specs, generator, recipe.sampler.batch), recipe, labelling, pool)))

        run(full)
        for turn in range(pairs):
            first, second = (full, without) if turn % 2 else (without, full)
            took = {len(labelling.refine): run(labelling) for labelling in (first, second)}
            ratios.append(took[len(full.refine)] / took[len(without.refine)])
    draw = generator.draw(specs[: recipe.sampler.batch])[0]
    for _ in range(9):
        each.append(seconds(lambda: make_sample(draw, full)) - seconds(lambda: make_sample(draw, without)))
    return [
        figure("ratio", statistics.median(ratios), "with crf/without", pairs, min(ratios), max(ratios)),
        figure("seconds_per_image", statistics.median(each), "crf alone", len(each), min(each), max(each)),
    ]


def main() -> None:
    """Measure and write ``results/speed.json``."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="mini")
    options.add_argument("--pairs", type=int, default=7)
    options.add_argument("--samples", type=int, default=200)
    options.add_argument("--out", type=Path, default=Path("results/speed.json"))
    chosen = options.parse_args()
    recipe = load(Path("recipes/lung.yaml"), {"model": chosen.model})
    folder = weights.resolve(chosen.model, offline=True).path
    for part in (
        lambda: taps(folder, recipe, chosen.pairs),
        lambda: crf(folder, recipe, chosen.pairs),
        lambda: start_up(chosen.model, 9),
        lambda: memory(folder, recipe, chosen.samples),
    ):
        records = part()
        write(chosen.out, records)  # each part on its own: a benchmark that is stopped keeps what it has
        for one in records:
            spread = f"[{one['lo']}, {one['hi']}]"
            print(f"{one['arm']:28s} {one['metric']:18s} {one['value']:.3f}  {spread}  n={one['n']}", flush=True)


if __name__ == "__main__":
    main()
