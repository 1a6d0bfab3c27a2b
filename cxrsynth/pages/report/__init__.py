"""The report: one HTML file to look through a dataset, which needs nothing but a browser."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import yaml
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from cxrsynth.curate import words
from cxrsynth.pages.report import charts
from cxrsynth.pages.report.gather import counted, gallery, numbers
from cxrsynth.pages.summary import Summary, summarise


def write_report(store_root: Path, limit: int = 200, summary: Summary | None = None) -> Path:
    """Write ``report.html`` into a dataset.

    Args:
        store_root: the dataset's folder.
        limit: how many images are embedded at most, evenly chosen; and half as many rejected ones.
        summary: the dataset's facts, where they were read already.

    Returns:
        Path of the page: self-contained, some megabytes at most, no request to anywhere.

    Raises:
        UsageError: the folder is no dataset, or nothing in it is finished yet.
    """
    summary = summary or summarise(Path(store_root))
    environment = Environment(
        loader=FunctionLoader(_part), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # facts keep their order
    environment.globals.update(
        histogram=charts.histogram, density=charts.density, number=charts.number, kept=charts.kept
    )
    environment.globals.update(counted=counted, score=words.score, reason=words.reason)
    environment.globals["inline"] = lambda name: Markup(_part(name))
    page = environment.get_template("page.html").render(
        summary=summary,
        gallery=gallery(summary, limit),
        numbers=numbers(summary),
        recipe=yaml.safe_dump(summary.recipe, sort_keys=False, allow_unicode=True) if summary.recipe else "",
    )
    return summary.store.write("report.html", page.encode())


def _part(name: str) -> str:
    """The text of a file that stands beside this one."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
