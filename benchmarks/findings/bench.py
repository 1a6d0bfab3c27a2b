"""One run of the benchmark: its folders, and what was measured already."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.findings.settings import Settings
from cxrsynth.compare.grid import identity
from cxrsynth.encoding import dumps, sha256
from cxrsynth.evaluate.lesions import Half
from cxrsynth.evaluate.results import Record
from cxrsynth.factory.plan import find_weights
from cxrsynth.files import write_atomic
from cxrsynth.nets.network_folder import locate, own_config
from cxrsynth.weights import Weights


@dataclass(frozen=True)
class Bench:
    """What all parts know.

    Attributes:
        settings: sizes, names, and how networks are trained.
        data: ingested real images with boxes and words on findings.
        out: folder of everything that is made.
        half: of the patients that is measured on.
        segmenter: run folder of a network that finds lungs and heart; None where ``data`` has masks of all images.
        classifier: run folder of a classifier that learned findings from real images; None: control is not scored.
        device: auto, cpu or cuda.
        workers: processes that generate.
        labellers: processes that label beside each of them; 0 for images so few that starting one is not worth it.
    """

    settings: Settings
    data: Path
    out: Path
    half: Half = "working"
    segmenter: Path | None = None
    classifier: Path | None = None
    device: str = "auto"
    workers: int = 1
    labellers: int = 1

    @property
    def labelled(self) -> Path:
        """The real images with masks of lungs and heart."""
        return self.data if self.segmenter is None else self.out / "labelled"

    @cached_property
    def model(self) -> Weights:
        """The diffusion model."""
        return find_weights(self.settings.model, offline=True)

    @property
    def made(self) -> Path:
        """The folder of what this model generates, so that several are measured side by side."""
        return self.out / f"{Path(self.settings.model).name}-{self.model.digest[:8]}"

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all that decides the figures, but for the code."""
        networks = [folder and own_config(locate(folder))["sha256"] for folder in (self.segmenter, self.classifier)]
        return sha256(dumps([self.settings.digest("shown"), identity(self.data), self.model.digest, networks]))

    def once(self, part: str, measure: Callable[[], list[Record]]) -> list[Record]:
        """The figures of a part: those that were kept, or measured now and kept."""
        path = self.out / "figures" / self.half / f"{part}.json"
        if path.exists():
            held = json.loads(path.read_text())
            if held["fingerprint"] == self.fingerprint:
                return list(held["records"])
        records = measure()
        write_atomic(path, dumps({"fingerprint": self.fingerprint, "records": records}))
        return records
