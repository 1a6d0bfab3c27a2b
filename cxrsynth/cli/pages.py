"""The pages of a dataset that people open: card, contact sheet, report."""

from __future__ import annotations

from pathlib import Path


def pages_are_stale(folder: Path) -> bool:
    """Whether a shard is newer than the report, the last page to be written: a run was stopped in between."""
    report = folder / "report.html"
    written = report.stat().st_mtime_ns if report.exists() else 0
    return any(receipt.stat().st_mtime_ns > written for receipt in (folder / "shards").glob("*.json"))


def write_pages(folder: Path) -> None:
    """Card, contact sheet and report, from what is on disk."""
    from cxrsynth.pages.card import write_card, write_preview
    from cxrsynth.pages.report import write_report
    from cxrsynth.pages.summary import summarise
    from cxrsynth.store import Store

    if next(Store(folder).rows(), None) is None:
        return
    summary = summarise(folder)  # once for all three
    write_preview(folder, summary=summary)
    write_card(folder, summary)
    write_report(folder, summary=summary)
