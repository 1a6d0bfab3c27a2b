"""Small charts as inline SVG; the page's style sheet colours them, so they follow dark and light."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT, FOOT = 280, 96, 18


def histogram(
    values: Sequence[float],
    unit: str = "",
    bounds: tuple[float, float] | None = None,
    paint: str = "",
    limits: tuple[float | None, float | None] = (None, None),
) -> Markup:
    """Values as a histogram with its range below and a line at the mean.

    Args:
        values: what to count; must not be empty.
        unit: follows the numbers, for example ``" %"``.
        bounds: range of the axis; by default that of the values.
        paint: CSS colour of the bars; by default the accent colour.
        limits: the smallest and the largest value that curation keeps, each a line of its own.
    """
    drawn = [value for value in limits if value is not None]
    low, high = bounds or (min(*values, *drawn, values[0]), max(*values, *drawn, values[0]))
    if high <= low:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    bins = int(np.clip(2 * len(values) ** 0.5, 10, 28))
    counts, edges = np.histogram(np.clip(values, low, high), bins=bins, range=(low, high))
    return _chart(counts, edges, float(np.mean(values)), unit, paint, drawn)


def kept(limits: tuple[float | None, float | None], unit: str = "") -> str:
    """What curation keeps, in words: ``kept from 0.4``, ``kept up to 2``, ``kept from 3 to 35 %``."""
    low, high = (None if value is None else number(value) for value in limits)
    words = " ".join(filter(None, [low and f"from {low}", high and f"{'to' if low else 'up to'} {high}"]))
    return f"kept {words}{unit}" if words else ""


def density(counts: np.ndarray, paint: str = "") -> Markup:
    """(256,) counts of the gray levels 0..255 as a histogram of 64 bins."""
    levels = np.arange(256)
    mean = float((counts * levels).sum() / counts.sum())
    return _chart(counts.reshape(64, 4).sum(axis=1), np.linspace(0, 255, 65), mean, "", paint)


def _chart(
    counts: np.ndarray, edges: np.ndarray, mean: float, unit: str, paint: str, limits: Sequence[float] = ()
) -> Markup:
    step = WIDTH / len(counts)
    tallest, total = max(int(counts.max()), 1), max(int(counts.sum()), 1)
    bars = []
    for place, count in enumerate(counts):
        if count:
            high = max(1.5, (HEIGHT - 6) * count / tallest)
            told = f"{number(edges[place])} to {number(edges[place + 1])}{unit}: {100 * count / total:.1f} %"
            bars.append(
                f'<rect x="{place * step + 0.5:.1f}" y="{HEIGHT - high:.1f}" width="{step - 1:.1f}" '
                f'height="{high:.1f}" rx="1"><title>{told}</title></rect>'
            )
    span = float(edges[-1] - edges[0])
    at = WIDTH * (mean - float(edges[0])) / span
    marks = "".join(
        f'<line class="limit" x1="{WIDTH * (value - float(edges[0])) / span:.1f}" y1="0" '
        f'x2="{WIDTH * (value - float(edges[0])) / span:.1f}" y2="{HEIGHT}">'
        f"<title>limit of curation: {number(value)}{unit}</title></line>"
        for value in limits
    )
    style = f' style="--bar:{paint}"' if paint else ""
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT + FOOT}" role="img" '
        f'aria-label="histogram, mean {number(mean)}{unit}"{style}>{"".join(bars)}'
        f'<line class="axis" x1="0" y1="{HEIGHT}" x2="{WIDTH}" y2="{HEIGHT}"/>'
        f'<line class="mean" x1="{at:.1f}" y1="0" x2="{at:.1f}" y2="{HEIGHT}"/>{marks}'
        f'<text x="0" y="{HEIGHT + 14}">{number(edges[0])}{unit}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + 14}" text-anchor="end">{number(edges[-1])}{unit}</text></svg>'
    )  # numbers, a unit and a colour of our own: nothing a user wrote


def number(value: float) -> str:
    """A number with three digits that count, without a needless exponent."""
    if value != 0 and abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
