"""The runs of a comparison, one training each: what is trained, in which order, and what is kept of it.

    R-N          real images of N patients              S-M          M synthetic images
    R-N+S-M      both, each half of the draws          S-M>R-N      half of the updates on each, synthetic first
    S-M teacher  synthetic images, labelled by a network that learned from all real ones
    R-all teacher  all real images, labelled by that network too
    R-N+pseudo   real images of N patients, and unlabelled real images labelled by the R-N network (Lee, 2013)
    S-all NAME   the images of another synthetic dataset (``also``), alone, mixed and fine-tuned as those of the first

All arms get the same number of updates, or as many as they need (``until: plateau``). The teacher is the R-all run of
the first seed. Its masks separate what the synthetic images add from what their attention masks add: S teacher against
S is the masks alone (same images), S teacher against R teacher the images alone (same labeller), R teacher against R
the teacher's own mistakes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock

from cxrsynth.compare.recipe import CompareRecipe, TestSet
from cxrsynth.data.labelled import Source, check_finished
from cxrsynth.device import resolve
from cxrsynth.encoding import dumps, sha256
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.segmentation import evaluate_segmenter, patients_of
from cxrsynth.factory.apply.segment import segment
from cxrsynth.files import write_atomic
from cxrsynth.nets.network_folder import own_config
from cxrsynth.nets.segmenter import load
from cxrsynth.pages.sheet import save
from cxrsynth.store import Store
from cxrsynth.train.curves import Progress
from cxrsynth.train.tasks.segment.config import SegmentConfig
from cxrsynth.train.tasks.segment.training import train_segmenter

# (finished updates of this run, its name)
Advance = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class Run:
    """One training.

    Attributes:
        seed: of weights and draws.
        real: patients of the real dataset, 0 for all; None without real images.
        synthetic: images of the synthetic dataset, 0 for all; None without.
        order: ``mixed``; ``first`` for the synthetic half before fine-tuning; ``then`` for the real half after it.
        teacher: whether a network labelled the images.
        dataset: name of the synthetic dataset, where it is not the first.
        pseudo: whether unlabelled real images, labelled by a network of the same N patients, are learned from too.
    """

    seed: int
    real: int | None = None
    synthetic: int | None = None
    order: str = "mixed"
    teacher: bool = False
    dataset: str = ""
    pseudo: bool = False

    @property
    def arm(self) -> str:
        """The name of its row."""
        by, of = " teacher" if self.teacher else "", f" {self.dataset}" if self.dataset else ""
        real, synthetic = f"R-{self.real or 'all'}{by}", f"S-{self.synthetic or 'all'}{of}{by}"
        if self.real is None:
            return synthetic
        if self.synthetic is None:
            return f"{real}+pseudo" if self.pseudo else real
        return f"{real}+{synthetic}" if self.order == "mixed" else f"{synthetic}>{real}"

    @property
    def shown(self) -> bool:
        """Whether it is an arm; the first half of a fine-tuning is none."""
        return self.order != "first"

    def like(self, other: Run) -> bool:
        """Whether two runs differ in nothing but which synthetic images they have, and how many."""
        both = self.synthetic is not None and other.synthetic is not None
        return both and replace(self, synthetic=0, dataset="") == replace(other, synthetic=0, dataset="")

    def updates(self, recipe: CompareRecipe) -> int:
        """How many updates it takes; both halves of a fine-tuning together are as many as any other arm."""
        whole = recipe.train.updates
        return {"first": whole // 2, "then": whole - whole // 2}.get(self.order, whole)


def plan(recipe: CompareRecipe) -> list[Run]:
    """All runs, in an order in which none needs a later one, and in which tables show the arms."""
    runs: list[Run] = []
    for seed in recipe.seeds:
        found = []
        if "real" in recipe.arms:
            found += [Run(seed, real=n) for n in recipe.real_patients]
        if recipe.synthetic is not None:
            found += with_synthetic(recipe, seed, recipe.synthetic_images)
        if "teacher" in recipe.arms:
            most = largest(recipe.synthetic_images)
            found += [Run(seed, real=0), Run(seed, synthetic=most, teacher=True), Run(seed, real=0, teacher=True)]
        for name in recipe.others:
            found += with_synthetic(recipe, seed, (0,), name)
        if "pseudo" in recipe.arms:
            found += [Run(seed, real=n) for n in recipe.real_patients if seed == recipe.seeds[0]]
            found += [Run(seed, real=n, pseudo=True) for n in recipe.real_patients]
        runs += dict.fromkeys(found)
    return runs


def with_synthetic(recipe: CompareRecipe, seed: int, images: Sequence[int], dataset: str = "") -> list[Run]:
    """The runs of one seed with the images of one synthetic dataset, alone, mixed and before real ones."""
    most, found = largest(images), []
    if "synthetic" in recipe.arms:
        found += [Run(seed, synthetic=m, dataset=dataset) for m in images]
    if "mixed" in recipe.arms:
        patients = own_patients(recipe, dataset, recipe.mixed_patients)
        found += [Run(seed, real=n, synthetic=most, dataset=dataset) for n in patients]
    if "fine_tuned" in recipe.arms:
        patients = own_patients(recipe, dataset, recipe.fine_tuned_patients)
        found += [Run(seed, synthetic=most, order="first", dataset=dataset)]
        found += [Run(seed, real=n, synthetic=most, order="then", dataset=dataset) for n in patients]
    return found


def own_patients(recipe: CompareRecipe, dataset: str, wanted: tuple[int, ...]) -> tuple[int, ...]:
    """The N of R(N) that stand beside the images of a dataset."""
    own = recipe.also[dataset].patients if dataset else None
    return (wanted or recipe.real_patients) if own is None else own


def largest(images: Sequence[int]) -> int:
    """The largest of some numbers of images, of which 0 is all."""
    return 0 if 0 in images else max(images)


@dataclass(slots=True)
class Grid:
    """Where runs are trained and kept.

    Attributes:
        recipe: of the comparison.
        out: its folder.
        device: auto, cpu or cuda.
    """

    stem: ClassVar[str] = "segment"  # of checkpoint and log
    recipe: CompareRecipe
    out: Path
    device: str = "auto"
    _identities: dict[Path, list[Any]] = field(default_factory=dict, repr=False)

    def identity(self, root: Path) -> list[Any]:
        """What `identity` says of a dataset, looked up once: it is asked for every run and every second."""
        if root not in self._identities:
            self._identities[root] = identity(root)
        return self._identities[root]

    def generated(self, run: Run) -> Path:
        """The synthetic images of a run; the recipe names them where an arm has any."""
        if run.dataset:
            return self.recipe.also[run.dataset].data
        if self.recipe.synthetic is None:
            raise UsageError(f"comparison '{self.recipe.name}' names no synthetic images", "synthetic: FOLDER")
        return self.recipe.synthetic

    @property
    def unlabelled(self) -> Path:
        """The images that pseudo-labels are made for; the recipe names them where an arm has any."""
        if self.recipe.unlabelled is None:
            raise UsageError(f"comparison '{self.recipe.name}' names no unlabelled images", "unlabelled: FOLDER")
        return self.recipe.unlabelled

    def folder(self, run: Run) -> Path:
        """The folder of a run; another recipe or other data give another folder, so nothing is mistaken."""
        recipe = self.recipe
        used = [recipe.real, *([] if run.synthetic is None else [self.generated(run)])]
        used += [self.unlabelled] if run.pseudo else []
        config = self.config(run).digest("workers", "checkpoint_minutes")
        whole = recipe.train.updates if run.order == "then" or run.teacher or run.pseudo else 0
        # What a dataset is counts, not what it is called here; older folders say nothing of pseudo-labels.
        left_out = {"dataset", *(() if run.pseudo else ("pseudo",))}
        what = {name: value for name, value in asdict(run).items() if name not in left_out}
        digest = sha256(dumps([what, config, whole, [self.identity(root) for root in used], recipe.seeds[0]]))
        name = run.arm.replace(">", "-then-").replace(" ", "-")
        part = "-first-half" if not run.shown else ""
        return self.out / "runs" / f"{name}{part}-seed{run.seed}-{digest[:8]}"

    def config(self, run: Run) -> SegmentConfig:
        """The training of a run; real images of a fine-tuning are none of the dataset's."""
        config = self.recipe.settings(run.seed, run.updates(self.recipe))
        hardness = self.recipe.also[run.dataset].hardness if run.dataset and run.order != "then" else 0
        return config.model_copy(update={"hardness": hardness}) if hardness else config

    def done(self, run: Run) -> bool:
        """Whether a run is trained and was measured on all tests."""
        place = self.folder(run)
        if not (place / "model/config.json").exists():
            return False
        return not run.shown or all(self.figures_path(place, test).exists() for test in self.recipe.tests)

    def needs(self, run: Run) -> list[Run]:
        """The runs that have to be done before it."""
        if run.order == "then":
            return [self.first_half(run)]
        return [self.teacher(run)] if run.teacher or run.pseudo else []

    def teacher(self, run: Run) -> Run:
        """The network that labels for a run, one for all seeds: of all real images, or of the same N patients."""
        return Run(self.recipe.seeds[0], real=run.real if run.pseudo else 0)

    def first_half(self, run: Run) -> Run:
        """What a fine-tuned run goes on from."""
        return Run(run.seed, synthetic=run.synthetic, order="first", dataset=run.dataset)

    def seen(self, run: Run) -> int:
        """Finished updates of a run that may be running in another process."""
        log = self.folder(run) / f"{self.stem}_log.jsonl"
        return len(log.read_bytes().splitlines()) if log.exists() else 0

    def complete(self, run: Run, advance: Advance | None = None) -> None:
        """Train and measure a run; what is there already is not made again."""
        place = self.folder(run)

        def on_step(done: int, total: int, values: dict[str, float]) -> None:
            if advance:
                advance(done, run.arm)

        if not (place / "model/config.json").exists():
            init = self.folder(self.first_half(run)) if run.order == "then" else None
            self.fit(run, place, init, on_step)
            # Half a gigabyte for nothing: the result is complete.
            (place / f"{self.stem}.ckpt").unlink(missing_ok=True)
        if run.shown:
            self.measure(place)

    def fit(self, run: Run, place: Path, init: Path | None, on_step: Progress) -> None:
        """Train the network of a run into ``place/model``."""
        config = self.config(run)
        train_segmenter(self.sources(run), place, config, [Source(self.recipe.real)], init, None, self.device, on_step)

    def sources(self, run: Run) -> list[Source]:
        """What a run learns from."""
        found = [] if run.real is None else [(self.recipe.real, run.real)]
        if run.synthetic is not None and run.order != "then":
            found.append((self.generated(run), run.synthetic))
        sources = [Source(self.labelled(root, run) if run.teacher else root, images=n) for root, n in found]
        return [*sources, Source(self.labelled(self.unlabelled, run))] if run.pseudo else sources

    def labelled(self, root: Path, run: Run) -> Path:
        """The images of a dataset with the masks of a run's teacher."""
        segmenter = load(self.folder(self.teacher(run)), resolve(self.device))
        made = self.out / "teacher" / f"{root.name}-{segmenter.config['sha256'][:8]}"
        made.parent.mkdir(parents=True, exist_ok=True)
        # Runs of other seeds may want the same images at the same time.
        with FileLock(f"{made}.lock"):
            segment(segmenter, root, made)
        return made

    def measure(self, place: Path) -> None:
        """Figures of every test image, one file per test, and the worst images as a picture."""
        segmenter = None
        for test in self.recipe.tests:
            path = self.figures_path(place, test)
            if path.exists():
                continue
            segmenter = segmenter or load(place, resolve(self.device))
            classes = self.recipe.train.classes
            known = Store(test.data).classes()
            # A test set may lack a class (only lungs, say): it measures the others.
            wanted = [name for name in classes if name in known]
            found = evaluate_segmenter(segmenter, test.data, test.split, wanted, test.sources, patients_of(place))
            save(found.picture, path.with_suffix(".png"))
            write_atomic(path, dumps(found.as_json()))

    def figures_path(self, place: Path, test: TestSet) -> Path:
        """Where the figures of a run on a test are; other images or sources give another name."""
        mark = sha256(dumps([test.split, test.sources, self.identity(test.data)]))[:8]
        return place / f"test-{test.label.replace(':', '-').replace('/', '-')}-{mark}.json"

    def figures(self, run: Run, test: TestSet) -> dict[str, Any]:
        """What `measure` found."""
        body: dict[str, Any] = json.loads(self.figures_path(self.folder(run), test).read_text(encoding="utf-8"))
        return body

    def counted(self, runs: Sequence[Run]) -> dict[str, int]:
        """Arm -> how many patients its first dataset had; an image of nobody counts as one."""
        found = {}
        for run in runs:
            if run.shown:
                config = own_config(self.folder(run) / "model")
                found[run.arm] = int(config["data"][0]["patients"])
        return found


def identity(root: Path) -> list[Any]:
    """What makes a dataset this one, wherever it lies: the recipes and keys of its finished shards.

    Raises:
        MismatchError: it is not finished.
    """
    check_finished(root)
    return [[receipt.shard, receipt.fingerprint, len(receipt.keys)] for receipt in Store(root).receipts()]
