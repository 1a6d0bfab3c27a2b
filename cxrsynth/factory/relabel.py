"""Label a dataset again from its stored maps, without sampling: another chain, other thresholds, other checks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxrsynth import curate
from cxrsynth.data.documents import read_yaml
from cxrsynth.data.paths import refuse_overlap
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.factory.run import Summary, claim
from cxrsynth.lock import writing
from cxrsynth.masks.labels import Labelling, make_sample
from cxrsynth.pool import spawn_pool
from cxrsynth.recipe import Recipe, assign, masks_identity, parse
from cxrsynth.recipe.files import absolute
from cxrsynth.records import Draw, Entry, Receipt, Row, Sample
from cxrsynth.store import Store


@dataclass(frozen=True, slots=True)
class RelabelPlan:
    """Which shards of ``source`` are labelled anew into ``out``, by which recipe."""

    source: Store
    out: Store
    recipe: Recipe
    fingerprint: str
    identity: dict[str, object]
    todo: list[Receipt]

    @property
    def slots(self) -> int:
        """Images to label."""
        return sum(len(receipt.keys) for receipt in self.todo)


def plan_relabel(dataset: Path, out: Path, masks: Path | None, assignments: list[str] | None) -> RelabelPlan:
    """Find out what there is to do.

    Raises:
        UsageError: no dataset, no stored maps, or ``out`` is, lies in or holds the dataset, or is another one.
        RecipeError: the new masks block is wrong.
    """
    source = Store(dataset)
    source.classes()
    refuse_overlap(dataset, out, around=True)
    raw = source.recipe()
    if masks is not None:
        block = read_yaml(masks)
        if not isinstance(block, dict) or "masks" not in block:
            raise UsageError(
                f"{masks} has no 'masks:' block", "for example: masks: {refine: [{use: crf, iterations: 10}]}"
            )
        raw["masks"] = block["masks"]
    for assignment in assignments or []:
        assign(raw, assignment)
    if isinstance(raw.get("masks"), dict):
        raw["masks"] = absolute(raw["masks"], dataset if masks is None else masks.parent)
    recipe = parse(raw, str(dataset / "recipe.yaml"))
    if not any(source.load_maps(row) is not None for row in source.rows()):
        raise UsageError(f"{dataset} has no stored maps", "generate it with masks.keep_maps: true")
    original = Store(dataset).identity()["fingerprint"]
    body: dict[str, object] = {
        "relabelled_from": original,
        "masks": masks_identity(recipe),
        "curate": recipe.resolved()["curate"],
    }
    print_ = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    target = Store(out)
    held = out / "identity.json"
    if held.exists() and Store(out).identity()["fingerprint"] != print_:
        raise UsageError(f"{out} holds another dataset", "name another folder with -o")
    todo = [receipt for receipt in source.receipts() if not target.is_done(receipt.shard, print_, receipt.keys)]
    return RelabelPlan(source, target, recipe, print_, body, todo)


def relabel(plan: RelabelPlan, advance: Callable[[float], None]) -> Summary:
    """Carry out the plan; typing the same command again resumes. What the checks refuse is listed as rejected."""
    labelling = Labelling.from_recipe(plan.recipe)
    checks = curate.build(plan.recipe.curate.checks, list(plan.recipe.class_ids()))
    rows: dict[int, list[Row]] = {}
    for row in plan.source.rows():
        rows.setdefault(row["shard"], []).append(row)
    with writing(plan.out.root), spawn_pool(2) as pool:
        count = sum(len(receipt.keys) for receipt in plan.source.receipts())
        claim(plan.out, plan.recipe.model_copy(update={"count": count}), plan.fingerprint, plan.identity)
        summary = Summary(str(plan.out.root), plan.fingerprint)
        for receipt in plan.todo:
            pairs = []
            for row in rows.get(receipt.shard, []):
                stored = plan.source.load_maps(row)
                if stored is None:
                    raise UsageError(
                        f"{row['key']} has no stored maps", "generate the dataset with masks.keep_maps: true"
                    )
                draw = Draw.stored(plan.source.load_image(row), stored)
                if len(draw.maps) != len(plan.recipe.classes):
                    raise MismatchError(
                        f"{row['maps']} holds {len(draw.maps)} maps, the recipe has {len(plan.recipe.classes)} classes",
                        f"see cxrsynth verify {plan.source.root}",
                    )
                pairs.append(
                    (row, draw, pool.submit(make_sample, draw, labelling, plan.recipe.required(row["present"])))
                )
            entries: list[Entry] = []
            rejected: list[tuple[Row, np.ndarray]] = []
            kept: list[Sample] = []
            layered = any(item.overlap for item in plan.recipe.classes)
            for row, draw, future in pairs:
                sample = future.result()
                verdict = curate.decide(sample, kept, checks)
                body = {**row, "scores": {**sample.scores, **verdict.scores}}
                if verdict.keep:
                    kept.append(sample)
                    maps = draw.arrays(plan.recipe.masks.keep_maps)
                    entries.append(Entry(body, sample.image, sample.mask, sample.layers if layered else None, maps))
                else:
                    rejected.append(({**body, "reason": verdict.reason}, sample.image))
                advance(1)
            made = plan.out.write_shard(
                receipt.shard,
                entries,
                fingerprint=plan.fingerprint,
                planned=receipt.keys,
                rejected=rejected,
                versions=receipt.versions,
                computed=receipt.computed,
            )
            summary.shards_made += 1
            summary.samples_made += len(made.keys)
        for done in plan.out.receipts():
            summary.add(done)
    return summary
