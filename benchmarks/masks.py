"""What each step from maps to masks costs: processor time and memory per image, at 256 and at 512 pixels.

    python -m benchmarks.masks out/bench-masks/val

Takes the first image of a dataset that annotate wrote with every read the chains need, and the chains of
``recipes/bench/masks.yaml``. Writes to ``results/masks.json``, datasets ``cost:256`` and ``cost:512``; ``lo`` and
``hi`` are the fastest and slowest run. Memory is what a fresh process grew by at its peak, libraries not counted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import cxrsynth.nets.affinity  # noqa: F401  its libraries are there before memory counts
from cxrsynth.evaluate.chains import load_chains
from cxrsynth.evaluate.results import Record, record, write
from cxrsynth.masks import chain
from cxrsynth.masks.fusion import Cross
from cxrsynth.masks.labels import Labelling
from cxrsynth.masks.threshold import agreeing, labels, weights
from cxrsynth.records import Draw
from cxrsynth.store import Store

COMMAND = "make bench-masks"
CHAINS = Path("recipes/bench/masks.yaml")
RUNS = 7


def first(dataset: Path, side: int) -> Draw:
    """The first image of a dataset at a size of ``side``, with its maps and reads."""
    store = Store(dataset)
    row = next(iter(store.rows()))
    stored = store.load_maps(row)
    assert stored is not None, f"{dataset} keeps no maps"
    picture = Image.fromarray(store.load_image(row)).resize((side, side), Image.Resampling.LANCZOS)
    return Draw.stored(np.asarray(picture), stored)


def peak() -> float:
    """MiB that this process has held at most since `forget`."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def forget() -> float:
    """Start the peak anew (Linux); MiB that are held now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def measure(dataset: Path, side: int, name: str, labelling: Labelling | None) -> list[Record]:
    """One step in this process: all refiners of a chain, or without one the step from maps to probabilities."""
    draw = first(dataset, side)
    some = labelling or next(iter(load_chains(CHAINS, dataset).values()))
    competing = some.competing
    prob = some.normaliser()(draw.maps, side, side, competing).prob
    refiners = some.refiners()

    def work() -> Any:
        if labelling is None:
            return some.normaliser()(draw.maps, side, side, competing)
        return chain.refine(draw.image, prob, refiners, draw.reads)

    before = forget()
    work()  # the first run loads networks: they count as memory, not as time
    grown = peak() - before
    took = timed(work)
    return [
        figure(name, side, "ms", [1000 * one for one in took]),
        figure(name, side, "peak_mib", [grown]),
    ]


def selection(dataset: Path, side: int, labelling: Labelling) -> list[Record]:
    """Finding a background for the image: how many DenseCRF runs it costs (DiffuMask takes twenty)."""
    draw = first(dataset, side)
    cross = next(one for one in labelling.refiners() if isinstance(one, Cross))
    competing = labelling.competing
    prob = labelling.normaliser()(draw.maps, side, side, competing).prob
    target = labels(cross.affinity.named(*cross.names)(draw.image, prob), competing)
    select = timed(lambda: agreeing(prob, target, competing, weights(cross.reach, cross.tried)))
    field = timed(lambda: cross.crf.named(*cross.names)(draw.image, prob))
    runs = [one / statistics.median(field) for one in select]
    return [
        figure("selection", side, "ms", [1000 * one for one in select]),
        figure("selection", side, "crf_runs", runs),
    ]


def timed(work: Any) -> list[float]:
    """Seconds of processor time of each of a few runs: what else the machine does does not count."""
    took = []
    for _ in range(RUNS):
        started = time.process_time()
        work()
        took.append(time.process_time() - started)
    return took


def figure(arm: str, side: int, metric: str, values: list[float]) -> Record:
    """Median, fastest and slowest of some runs."""
    three = (statistics.median(values), min(values), max(values))
    made = record("masks", arm, f"cost:{side}", metric, three, len(values))
    return made | {"command": COMMAND} | ({"lo": None, "hi": None} if len(values) == 1 else {})


def main() -> None:
    """Measure and write."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("dataset", type=Path)
    options.add_argument("--out", type=Path, default=Path("results/masks.json"))
    chosen = options.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    chains = {name: one for name, one in load_chains(CHAINS, chosen.dataset).items() if one.refine}
    context = multiprocessing.get_context("spawn")
    for side in (256, 512):
        for name, labelling in {"maps to probabilities": None, **chains}.items():
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                made = pool.submit(measure, chosen.dataset, side, name, labelling).result()
            write(chosen.out, made)
            print(f"{side} {name:24s} {made[0]['value']:8.1f} ms {made[1]['value']:8.1f} MiB", flush=True)
        made = selection(chosen.dataset, side, chains["cross_select"])
        write(chosen.out, made)
        print(f"{side} {'selection':24s} {made[0]['value']:8.1f} ms = {made[1]['value']:.2f} CRF runs", flush=True)


if __name__ == "__main__":
    main()
