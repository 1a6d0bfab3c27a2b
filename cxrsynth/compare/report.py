"""The results of a comparison as JSON, CSV, Markdown, a plot, and one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxrsynth.compare.comparison import Outcome
from cxrsynth.compare.cost import COSTS
from cxrsynth.compare.recipe import CompareRecipe
from cxrsynth.encoding import dumps
from cxrsynth.evaluate.results import Record, write
from cxrsynth.files import write_atomic
from cxrsynth.pages.tables import cell, plain, table

COLUMNS = ("benchmark", "arm", "dataset", "class", "metric", "value", "lo", "hi", "n", "seeds", "commit", "machine")
KINDS = {
    "real": ("real", "tab:blue", "o-"),
    "synthetic": ("synthetic", "tab:orange", "s--"),
    "mixed": ("real + synthetic", "tab:green", "^-"),
    "then": ("synthetic, then real", "tab:red", "v-"),
    "teacher": ("synthetic, teacher's masks", "tab:purple", "D--"),
    "real_teacher": ("real, teacher's masks", "tab:cyan", "D--"),
    "few": ("synthetic, made with so many patients' masks", "tab:orange", "s-"),
    "few_mixed": ("real + synthetic, both of the same patients", "tab:green", "^--"),
    "pseudo": ("real + pseudo-labels", "tab:brown", "x-"),
    "other": ("other synthetic datasets", "tab:olive", "P"),
}
SEVERAL = (
    "Mean over test patients and {} trainings of each arm, with the 95 % interval over resampled patients and seeds; p "
    "values come from the same draws. "
)
ONE = (
    "Mean over test patients of one training of each arm, with the 95 % interval over resampled patients, and p values "
    "from the same draws: how much another training would differ is not in them. "
)
ARMS = (
    "R-N: real images of N patients. S-M: M synthetic images. R-N+S-M: both, half of the draws each. S-M>R-N: "
    "synthetic first, then real, half of the updates each. Teacher: images labelled by a network trained on all real "
    "ones. Pseudo: unlabelled real images beside the N, labelled by the R-N network. "
)
FIXED = "All arms have the same number of updates."
PLATEAU = (
    "Each training ended when the score of the real validation images, the same for all arms, stopped improving, after "
    "{} updates at most, and its best average was taken: real labels also say when arms without real images stop."
)
SPENT = (
    "Means over the trainings of an arm, in brackets the least and the most. Seconds are of batches and updates on the "
    "machine that trained, with whatever ran beside; a fine-tuned arm counts both halves."
)

OTHERS = " S-all NAME: another synthetic dataset: {}."


def intro(recipe: CompareRecipe) -> str:
    """What the figures are of."""
    seeds = len(recipe.seeds)
    others = ", ".join(f"{name} ({folder.name})" for name, folder in recipe.others.items())
    length = FIXED if recipe.until == "fixed" else PLATEAU.format(recipe.train.updates)
    return (SEVERAL.format(seeds) if seeds > 1 else ONE) + ARMS + length + (OTHERS.format(others) if others else "")


def write_report(recipe: CompareRecipe, outcome: Outcome, out: Path) -> None:
    """Write ``compare.json``, ``.csv`` and ``.md``, ``comparisons.json``, ``curves.png`` and ``report.html``."""
    # A comparison is written as a whole: figures of arms that are no longer in the recipe must not stay.
    (out / "compare.json").unlink(missing_ok=True)
    write(out / "compare.json", outcome.records)
    write_atomic(out / "comparisons.json", dumps(outcome.comparisons))
    write_atomic(out / "compare.csv", csv_of(outcome.records).encode())
    plot = plot_of(outcome.curves)
    write_atomic(out / "curves.png", plot)
    write_atomic(out / "compare.md", markdown(recipe, outcome).encode())
    write_atomic(out / "report.html", page(recipe, outcome, plot).encode())


def csv_of(records: Sequence[Record]) -> str:
    """One line per record."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**item, "seeds": " ".join(map(str, item["seeds"]))} for item in records)
    return text.getvalue()


def markdown(recipe: CompareRecipe, outcome: Outcome) -> str:
    """Dice per class, and the comparisons, one table each per test."""
    parts = [f"# {plain(recipe.name)}\n\n{intro(recipe)}\n"]
    for dataset in tests_of(outcome):
        dice = [item for item in outcome.records if item["dataset"] == dataset and item["metric"] == "dice"]
        parts.append(f"## {plain(dataset)}\n\nDice\n\n{table(dice, rows='arm', columns='class')}")
    spent = cost_rows(outcome)
    if spent:
        parts.append(f"## Training\n\n{SPENT}\n\n{table(spent, rows='arm', columns='metric')}")
    if outcome.comparisons:
        rows = comparison_rows(outcome)
        head = f"| {' | '.join(rows[0])} |\n{'|---' * len(rows[0])}|\n"
        body = "".join(f"| {' | '.join(row)} |\n" for row in rows[1:])
        parts.append(f"## Paired comparisons of Dice\n\n{head}{body}")
    lines = equivalents(outcome)
    if lines:
        parts.append("## Real equivalents\n\n" + "".join(f"- {line}\n" for line in lines))
    return "\n".join(parts)


def tests_of(outcome: Outcome) -> list[str]:
    """The tests that have figures of masks, in order."""
    return list(dict.fromkeys(item["dataset"] for item in outcome.records if item["metric"] == "dice"))


def cost_rows(outcome: Outcome) -> list[Record]:
    """What the trainings took."""
    return [item for item in outcome.records if item["metric"] in COSTS]


def comparison_rows(outcome: Outcome) -> list[list[str]]:
    """Heading and rows of the paired comparisons."""
    rows = [["test", "arm", "against", "class", "difference", "ratio", "p", "p (Holm)", "n"]]
    for item in outcome.comparisons:
        low, high = item["difference_interval"]
        share = ""
        if item["ratio"] is not None:
            share = "{:.3f} ({:.3f}-{:.3f})".format(item["ratio"], *item["ratio_interval"])
        rows.append(
            [
                item["test"], item["arm"], item["against"], item["class"],
                f"{item['difference']:+.3f} ({low:+.3f} to {high:+.3f})", share,
                f"{item['p']:.2g}", f"{item['p_holm']:.2g}", str(item["n"]),
            ]
        )  # fmt: skip
    return rows


def equivalents(outcome: Outcome) -> list[str]:
    """One sentence per synthetic arm and test."""
    words = {"=": "about", "<": "fewer than", ">": "more than"}
    return [
        f"{item['dataset']}: {item['arm']} equals {words[item['sign']]} {item['value']:.0f} real patients "
        f"({item['lo']:.0f}-{item['hi']:.0f})"
        for item in outcome.records
        if item["metric"] == "real_equivalents"
    ]


def plot_of(curves: Sequence[dict[str, Any]]) -> bytes:
    """PNG: mean Dice against the number of images, one panel per test."""
    from matplotlib.figure import Figure

    tests = list(dict.fromkeys(point["test"] for point in curves))
    figure = Figure(figsize=(5.2 * max(1, len(tests)), 4), layout="constrained")
    for axis, test in zip(figure.subplots(1, max(1, len(tests)), squeeze=False)[0], tests, strict=False):
        for kind, (label, colour, style) in KINDS.items():
            points = [point for point in curves if point["test"] == test and point["kind"] == kind]
            points.sort(key=lambda point: point["images"])
            if not points:
                continue
            places = [point["images"] for point in points]
            values = [point["value"] for point in points]
            spread = [
                [max(0.0, point["value"] - point["lo"]) for point in points],
                [max(0.0, point["hi"] - point["value"]) for point in points],
            ]
            axis.errorbar(places, values, spread, fmt=style, color=colour, label=label, capsize=3, markersize=5)
        axis.set_xscale("log")
        ticks: list[int] = []
        for images in sorted({point["images"] for point in curves if point["test"] == test}):
            if not ticks or images > 1.15 * ticks[-1]:  # closer numbers would be printed over each other
                ticks.append(images)
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set_xticks([], minor=True)
        axis.set_title(test, parse_math=False)
        axis.set_xlabel("real patients (synthetic images where there are none)")
        axis.set_ylabel("Dice, mean of the classes")
        axis.grid(alpha=0.3)
    # Below the panels: inside, it would lie on points. A kind may be missing from one test, so all are asked.
    labels = {name: mark for axis in figure.axes for mark, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    if labels:
        figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=3, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def page(recipe: CompareRecipe, outcome: Outcome, plot: bytes) -> str:
    """The same as one HTML page."""
    parts = [f"<h1>{html.escape(recipe.name)}</h1><p>{html.escape(intro(recipe))}</p>"]
    picture = base64.b64encode(plot).decode()
    parts.append(f'<img alt="Dice against the number of images" src="data:image/png;base64,{picture}">')
    for dataset in tests_of(outcome):
        found = [item for item in outcome.records if item["dataset"] == dataset and item["metric"] == "dice"]
        arms, classes = (list(dict.fromkeys(item[name] for item in found)) for name in ("arm", "class"))
        cells = {
            (item["arm"], item["class"]): f"{item['value']:.3f} ({item['lo']:.3f}-{item['hi']:.3f})" for item in found
        }
        rows = [["Dice", *classes]] + [[arm, *(cells.get((arm, klass), "") for klass in classes)] for arm in arms]
        parts.append(f"<h2>{html.escape(dataset)}</h2>{html_table(rows)}")
    spent = cost_rows(outcome)
    arms = list(dict.fromkeys(item["arm"] for item in spent))
    told = {(item["arm"], item["metric"]): cell(item) for item in spent}
    rows = [["Training", *map(plain, COSTS)]] + [[arm, *(told.get((arm, name), "") for name in COSTS)] for arm in arms]
    parts.append(f"<h2>Training</h2><p>{html.escape(SPENT)}</p>{html_table(rows)}")
    parts.append(f"<h2>Paired comparisons of Dice</h2>{html_table(comparison_rows(outcome))}")
    parts += [f"<p>{html.escape(line)}</p>" for line in equivalents(outcome)]
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
        "td,th{border:1px solid #ccc;padding:.25rem .6rem;text-align:left}img{max-width:100%}"
    )
    head = '<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    head += "img-src data:; style-src 'unsafe-inline'\">"
    head += f"<title>{html.escape(recipe.name)}</title><style>{style}</style>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the heading."""

    def line(row: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"

    return f"<table>{line(rows[0], 'th')}{''.join(line(row, 'td') for row in rows[1:])}</table>"
