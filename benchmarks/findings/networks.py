"""The networks of the benchmark: a detector of all findings, and one of opacities for each kind of training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.findings.bench import Bench
from benchmarks.findings.material import OPACITY
from cxrsynth.cli.train import progress
from cxrsynth.compare.grid import identity
from cxrsynth.data.labelled import Source
from cxrsynth.device import resolve
from cxrsynth.encoding import dumps, sha256
from cxrsynth.evaluate.segmentation import patients_of
from cxrsynth.nets.segmenter import Segmenter, load
from cxrsynth.train.tasks.segment.training import train_segmenter

DETECTOR, SIMULATED, GENERATED, BOXES = "detector", "simulated", "generated", "boxes"


@dataclass(frozen=True, slots=True)
class Arm:
    """One training.

    Attributes:
        name: in tables; ``simulated+boxes`` takes half of its draws from either.
        findings: its classes.
        sources: names of the images it learns from.
    """

    name: str
    findings: tuple[str, ...]
    sources: tuple[str, ...]


def arms(bench: Bench) -> list[Arm]:
    """The detector, then what opacities can be learned from; the boxes are the only real lesions among it."""
    kinds = ((SIMULATED,), (GENERATED,), (BOXES,), (SIMULATED, BOXES), (GENERATED, BOXES))
    named = [Arm("+".join(kind), (OPACITY,), kind) for kind in kinds]
    return [Arm(DETECTOR, bench.settings.detector, (SIMULATED,)), *named]


def train(bench: Bench, arm: Arm, folders: dict[str, Path]) -> Path:
    """The run folder of an arm, trained to its end; the same command goes on where it stopped.

    All arms take the same number of updates, and their last average: no image decides when an arm is at its best.

    Args:
        folders: name of a source -> its dataset.
    """
    settings = bench.settings
    fixed = {"classes": arm.findings, "benchmark": BOXES in arm.sources}
    config = settings.train.model_copy(update={**fixed, "look_every": settings.train.updates, "patience": 0})
    sources = [Source(folders[name], 1 / len(arm.sources)) for name in arm.sources]
    validation: list[Source] = []
    if BOXES in arm.sources:  # they have no validation split, and too few patients to give any away
        others = [name for name in arm.sources if name != BOXES] or [SIMULATED]
        validation = [Source(folders[name]) for name in others]
    # Another training, or other images, get a folder of their own, so that nothing is taken for what it is not.
    read = [identity(source.root) for source in (*sources, *validation)]
    digest = sha256(dumps([asdict(arm), config.digest("workers", "checkpoint_minutes"), read]))
    run = bench.out / "runs" / f"{arm.name}-{digest[:8]}"
    if (run / "model" / "config.json").exists():
        return run
    with progress(f"train {arm.name}") as on_step:
        train_segmenter(sources, run, config, validation, None, None, bench.device, on_step)
    return run


def opened(bench: Bench, run: Path) -> Segmenter:
    """A trained network."""
    return load(run, resolve(bench.device))


def seen(runs: Sequence[Path]) -> frozenset[str]:
    """The patients that any of these networks saw, so that all are measured on the same images."""
    return frozenset(patient for run in runs for part in patients_of(run).values() for patient in part)
