"""The figures that are aimed at, beside what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.findings.bench import Bench
from benchmarks.findings.material import OPACITY
from benchmarks.findings.networks import DETECTOR, SIMULATED
from cxrsynth.data.boxes import READINGS
from cxrsynth.evaluate.findings import BENCHMARK
from cxrsynth.evaluate.results import Record, record

# Whether a record is the one that is looked for.
Pick = Callable[[Record], bool]


def picks(arm: str, metric: str, klass: str, dataset: str = "") -> Pick:
    """A record of this arm (or of one that begins so, with ``*``), metric and class, whose dataset ends so."""

    def fits(one: Record) -> bool:
        named = one["arm"].startswith(arm[:-1]) if arm.endswith("*") else one["arm"] == arm
        return named and one["metric"] == metric and one["class"] == klass and one["dataset"].endswith(dataset)

    return fits


def goals(bench: Bench) -> list[tuple[str, Pick, float]]:
    """Name of a figure, its record, and the target."""
    words = f"{Path(bench.settings.model).name} against {bench.settings.against}: {OPACITY}"
    rsna, readings, labels = (f":{name}:{bench.half}" for name in ("rsna", READINGS, "labels"))
    return [
        ("attention: 'opacity' points into RSNA boxes", picks(words, "pointing", OPACITY, rsna), 0.65),
        ("the same minus the best control phrase", picks(f"{words} - *", "pointing", OPACITY, rsna), 0.25),
        ("no lesion label: points into RSNA boxes", picks(SIMULATED, "pointing", OPACITY, rsna), 0.75),
        ("no lesion label: AUROC, pneumonia or nothing", picks(SIMULATED, "image_auroc", OPACITY, labels), 0.82),
        ("attention: zone of Shenzhen readings", picks(words, "pointing", "tuberculosis", readings), 0.7),
        *(
            (f"control: AUROC before and after, {name}", picks(name, "auroc", name, "control"), 0.8)
            for name in bench.settings.control
        ),
        ("asked for and there", picks(DETECTOR, "asked_and_there", "all"), 0.9),
        ("not asked for and absent", picks(DETECTOR, "not_asked_and_absent", "all"), 0.95),
    ]


def summary(bench: Bench, found: Sequence[Record]) -> list[Record]:
    """The figures beside their targets; those that were not measured are left out."""
    rows: list[Record] = []
    dataset = f"targets:{bench.half}"
    for name, fits, target in goals(bench):
        one = next((one for one in found if fits(one)), None)
        if one is None:
            continue
        figures, aim = (one["value"], one["lo"], one["hi"]), (target, math.nan, math.nan)
        rows.append(record(BENCHMARK, name, dataset, "measured", figures, one["n"]))
        rows.append({**record(BENCHMARK, name, dataset, "target", aim, one["n"]), "lo": None, "hi": None})
    return rows
