"""Recipe -> Spec: what sample number i shall be, without looking at any other sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from cxrsynth.data.lines import read_lines
from cxrsynth.data.tables import read_table
from cxrsynth.domain.lexicon import affirmed
from cxrsynth.errors import RecipeError, UsageError
from cxrsynth.recipe import ClassSpec, Recipe, key
from cxrsynth.records import STREAM_CONTROL, STREAM_NOISE, STREAM_PROMPT, STREAM_SPLIT, Spec, rng

T = TypeVar("T")
TENTHS = 10


def spec(recipe: Recipe, index: int, attempt: int = 0) -> Spec:
    """The Spec of one slot.

    The prompt, the split and what is imposed belong to the slot and stay the same when it is generated again; the noise
    changes.

    Raises:
        RecipeError: the prompt file is missing, empty or has no column of prompts.
    """
    turn = index // recipe.prompts.each  # slots of one turn share prompt and split, and differ in noise
    prompt, fields = _prompt(recipe, turn)
    negative = fields.pop("negative_prompt", "") if recipe.prompts.csv is not None else ""
    present = {item.name: asked_for(item, prompt) for item in recipe.classes}
    control = None
    if recipe.control is not None:
        labels = recipe.finding_labels()
        control = recipe.control.impose(rng(recipe.seed, index, STREAM_CONTROL), labels)
        present |= {name: any(one["label"] == name for one in control["findings"]) for name in labels if name}
    return Spec(
        index=index,
        key=key(index),
        prompt=prompt,
        negative_prompt=negative or recipe.negative_prompt,
        phrases={item.name: item.phrase for item in recipe.classes},
        present=present,
        seed=int(rng(recipe.seed, index, STREAM_NOISE, attempt).integers(0, 2**63 - 1)),
        split=_pick(recipe.split.model_dump(), _share(recipe.seed, turn)),
        attempt=attempt,
        fields=fields,
        control=control,
    )


def asked_for(item: ClassSpec, prompt: str) -> bool:
    """Whether a class has to be there: always, or for an optional class if the prompt names it and does not deny it."""
    if not item.optional:
        return True
    return any(affirmed(word, prompt) for word in item.when or (item.phrase,))


def _prompt(recipe: Recipe, index: int) -> tuple[str, dict[str, str]]:
    source = recipe.prompts
    if source.csv is not None:
        rows = _csv_rows(source.csv, source.column)
        place = index % len(rows)
        if source.weight is not None:
            ends = _csv_ends(source.csv, source.column, source.weight)
            place = _place(ends, rng(recipe.seed, index, STREAM_PROMPT).random())
        fields = dict(rows[place])
        fields.pop(source.weight or "", None)
        return fields.pop(source.column), fields
    if source.text is not None:
        lines = _text_lines(source.text)
        return lines[index % len(lines)], {}
    random = rng(recipe.seed, index, STREAM_PROMPT)
    template = _choose(source.templates, random)
    # Every word is drawn, used or not: an edited template does not reshuffle the others.
    fields = {word: _choose(choices, random) for word, choices in source.vocabulary.items()}
    used = {word: value for word, value in fields.items() if f"{{{word}}}" in template}
    return " ".join(template.format(**fields).split()), used


def _choose(weights: Mapping[str, float], random: np.random.Generator) -> str:
    return _pick(weights, random.random())


def _pick(weights: Mapping[str, float], fraction: float) -> str:
    """The choice at a position, 0..1, of all choices laid end to end by their weight."""
    return list(weights)[_place(np.cumsum(np.array(list(weights.values()), dtype=np.float64)), fraction)]


def _place(ends: np.ndarray, fraction: float) -> int:
    """Which of choices laid end to end lies at a position, 0..1; ``ends``: (N,) float64, where each one ends."""
    return min(int(np.searchsorted(ends, fraction * ends[-1], side="right")), len(ends) - 1)


def _share(seed: int, turn: int) -> float:
    """Where in 0..1 a turn stands when the splits are dealt.

    Ten turns in a row stand in the ten tenths, in an order of their own: each split that has a tenth or more is among
    any ten of them, so that small datasets have all splits, and raising the count moves nobody.
    """
    block, place = divmod(turn, TENTHS)
    random = rng(seed, block, STREAM_SPLIT)
    order, within = random.permutation(TENTHS), random.random(TENTHS)
    return float((order[place] + within[place]) / TENTHS)


@lru_cache(maxsize=8)
def _csv_rows(path: Path, column: str) -> Sequence[dict[str, str]]:
    try:
        table = read_table(path, [column])
    except UsageError as error:
        raise RecipeError(error.message, f"{error.hint}; or fix prompts.csv or prompts.column in the recipe") from error
    for position, row in enumerate(table.rows):
        if not row[column]:
            raise RecipeError(f"{table.where(position)}, has no prompt", "write one, or remove the line")
    return _not_empty(path, table.rows)


@lru_cache(maxsize=8)
def _csv_ends(path: Path, column: str, weight: str) -> np.ndarray:
    """(N,) float64, the weights of the rows added up."""
    rows = _csv_rows(path, column)
    if weight not in rows[0]:
        raise RecipeError(f"{path} has no column '{weight}'", f"prompts.weight is one of: {', '.join(rows[0])}")
    try:
        found = np.array([float(row[weight]) for row in rows])
    except ValueError as error:
        raise RecipeError(
            f"column '{weight}' of {path}: {error}", "write a number of 0 or more in each line"
        ) from error
    if not np.isfinite(found).all() or (found < 0).any() or not found.any():
        raise RecipeError(f"column '{weight}' of {path} is no list of weights", "numbers of 0 or more, not all 0")
    return np.cumsum(found)


@lru_cache(maxsize=8)
def _text_lines(path: Path) -> Sequence[str]:
    try:
        return _not_empty(path, read_lines(path))
    except RecipeError:
        raise
    except UsageError as error:
        raise RecipeError(error.message, f"{error.hint}; or fix prompts.text in the recipe") from error


def _not_empty(path: Path, rows: Sequence[T]) -> Sequence[T]:
    if not rows:
        raise RecipeError(f"{path} holds no prompt", "one prompt per line, or a CSV with a column 'prompt'")
    return rows
