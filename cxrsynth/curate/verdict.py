"""The checks of a recipe, built and asked in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from cxrsynth import registry
from cxrsynth.curate.check import BaseCheck, Limits
from cxrsynth.errors import RecipeError
from cxrsynth.recipe import resolve_entry
from cxrsynth.records import Check, Sample, Verdict


def build(entries: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> list[Check]:
    """The checks of a recipe, in its order.

    Args:
        entries: ``{"use": name, field: value, ...}`` each; the other fields take their defaults.
        classes: names of the recipe's classes.

    Raises:
        RecipeError: unknown check, field, value or class; the message lists the right ones.
    """
    return [_construct(entry, classes) for entry in entries]


def decide(sample: Sample, kept: list[Sample], checks: Sequence[Check]) -> Verdict:
    """The first check that rejects gives the reason; the scores of all that were asked are merged.

    Checks after a rejection are not asked: they may rely on what the earlier ones made sure of. A sample that could not
    be given what was imposed on it is rejected first, whatever the checks: ``control.opacity.carrier``.
    """
    scores = dict(sample.scores)
    if sample.refused:
        return Verdict(False, f"control.{sample.refused}", scores)
    for check in checks:
        verdict = check(sample, kept)
        scores |= verdict.scores
        if not verdict.keep:
            return Verdict(False, verdict.reason, scores)
    return Verdict(True, "", scores)


def limits(entries: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> dict[str, Limits]:
    """Score -> the smallest and the largest value that the checks of a recipe keep."""
    checks = build(entries, classes)
    return {name: kept for one in checks if isinstance(one, BaseCheck) for name, kept in one.limits(classes).items()}


def _construct(entry: Mapping[str, Any], classes: Sequence[str]) -> Check:
    try:
        resolved = resolve_entry("checks", dict(entry))
    except ValueError as error:
        raise RecipeError(f"checks: {error}", "'cxrsynth info --schema' lists every key") from error
    name = resolved.pop("use")
    check: Check = registry.load("checks", name)(**resolved)
    strangers = sorted(check.mentions() - set(classes)) if isinstance(check, BaseCheck) else []
    if strangers:
        close = get_close_matches(strangers[0], classes, n=1)
        guess = f"did you mean '{close[0]}'? " if close else ""
        raise RecipeError(f"check '{name}': unknown class '{strangers[0]}'", f"{guess}known: {', '.join(classes)}")
    return check
