"""How well maps of findings fit the places of lesions: figures with chance and with control phrases beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cxrsynth.data.findings import PHRASES
from cxrsynth.data.patients import patient_id
from cxrsynth.evaluate.finding_maps import Read
from cxrsynth.evaluate.lesions import Case, Half
from cxrsynth.evaluate.pointing import METRICS, chance, figures
from cxrsynth.evaluate.results import Record, record
from cxrsynth.statistics import bootstrap
from cxrsynth.store import Store

BENCHMARK = "lesions"
CONTROLS = ("dog", "no abnormality")  # words that should look nowhere in particular
CHANCE = "chance"
BATCH = 4
OnImage = Callable[[int, int], None]


def measure(
    data: Path, chosen: Sequence[Case], read: Read, on_image: OnImage = lambda done, total: None
) -> list[dict[str, float]]:
    """Figures of every case: ``"<phrase>|<metric>"`` -> value, chance among the phrases.

    Args:
        read: see `cxrsynth.evaluate.finding_maps.Read`.
    """
    store = Store(data)
    keys = list(dict.fromkeys(case.row["key"] for case in chosen))
    rows = {case.row["key"]: case.row for case in chosen}
    found: dict[int, dict[str, float]] = {}
    for start in range(0, len(keys), BATCH):
        part = keys[start : start + BATCH]
        maps = read([rows[key] for key in part], [store.load_image(rows[key]) for key in part])
        for place, case in enumerate(chosen):
            if case.row["key"] not in part:
                continue
            number = part.index(case.row["key"])
            values = {f"{CHANCE}|{name}": value for name, value in chance(case.target, case.region).items()}
            for phrase, drawn in maps.items():
                fitted = figures(drawn[number], case.target, case.region)
                values |= {f"{phrase}|{name}": value for name, value in fitted.items()}
            found[place] = values
        on_image(min(start + BATCH, len(keys)), len(keys))
    return [found[place] for place in range(len(chosen))]


def phrases_for(findings: Sequence[str]) -> list[str]:
    """The phrase of every finding, "opacity" beside those that the simulator does not know, and the controls."""
    own = [PHRASES.get(name, name.replace("_", " ")) for name in findings]
    also = [PHRASES["opacity"]] if any(name not in PHRASES for name in findings) else []
    return list(dict.fromkeys([*own, *also, *CONTROLS]))


def records(
    chosen: Sequence[Case], values: Sequence[Mapping[str, float]], name: str, data: str, half: Half, seed: int = 0
) -> list[Record]:
    """Per reader, finding and phrase every figure with its interval by patient, chance, and what a phrase has over the
    best control.
    """
    found: list[Record] = []
    phrases = list(dict.fromkeys(key.rpartition("|")[0] for one in values for key in one))
    controls = [phrase for phrase in phrases if phrase in CONTROLS]
    for reader, finding in sorted({(case.reader, case.finding) for case in chosen}):
        mine = [i for i, case in enumerate(chosen) if (case.reader, case.finding) == (reader, finding)]
        patients = [patient_id(chosen[i].row) for i in mine]
        dataset = f"{data}:{reader}:{half}"
        for metric in METRICS:
            columns = {phrase: np.array([values[i][f"{phrase}|{metric}"] for i in mine]) for phrase in phrases}
            for phrase, column in columns.items():
                arm = f"{name}: {phrase}" if phrase != CHANCE else CHANCE
                known = int((~np.isnan(column)).sum())
                if known:
                    interval = bootstrap(column, patients, seed=seed)
                    found.append(record(BENCHMARK, arm, dataset, metric, interval, known, finding, [seed]))
            if not controls:
                continue
            best = max(controls, key=lambda phrase: float(np.nanmean(columns[phrase])))
            for phrase, column in columns.items():
                if phrase not in (CHANCE, *controls):
                    over = bootstrap(column - columns[best], patients, seed=seed)
                    arm = f"{name}: {phrase} - {best}"
                    found.append(record(BENCHMARK, arm, dataset, metric, over, len(mine), finding, [seed]))
    return found
