"""What `cxrsynth evaluate images` found, as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from cxrsynth.evaluate.features import FeatureNet
from cxrsynth.evaluate.images import Group
from cxrsynth.evaluate.memorisation import Nearest, Privacy
from cxrsynth.evaluate.results import Record
from cxrsynth.pages.tables import cell

SHOWN = 12
SIDE = 160
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #8884;padding:.3rem .6rem;text-align:left}"
    "figure{display:inline-block;margin:.4rem;text-align:center;font-size:12px;max-width:22rem}"
    "img{max-width:100%}.bad{outline:3px solid #c33}"
)


def page(
    title: str, records: Sequence[Record], nets: Sequence[FeatureNet], generated: Group, train: Group, found: Privacy
) -> str:
    """The page as text.

    Args:
        records: every figure.
        nets: what the features came from.
        found: of the privacy check; its nearest images are shown, the nearest first.
    """
    kept = int((~found.suspicious).sum())
    order = np.argsort(found.generated.distance, kind="stable")
    by_pixels = np.argsort(-found.generated.likeness, kind="stable")
    rest = np.random.default_rng(0).permutation(len(order))[:SHOWN]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=Content-Security-Policy "
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
        f"<meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1>",
        f"<p>{len(generated.rows)} synthetic images. Every figure has its 95 % interval; arm <b>real</b> is the same "
        "measure between real images: the floor, not a competitor. Distances compare within one net only.</p><ul>",
        *(f"<li><b>{escape(net.name)} features</b>: {escape(net.what)}</li>" for net in nets),
        "</ul><h2>Figures</h2>",
        figures(records),
        "<h2>Privacy</h2>",
        f"<p>{len(order) - kept} of {len(order)} synthetic images are nearer to a training image than every one of "
        f"{len(found.real.distance)} held-out real images is, in autoencoder features or by pixels. "
        "An image far from all training images is not proof of privacy.</p>",
        f"<img alt='nearest distances' src='{uri(histogram(found))}'>",
        "<h3>Nearest in features</h3>",
        *(pair(i, generated, train, found.generated, True, found) for i in order[:SHOWN]),
        "<h3>Most alike by pixels</h3>",
        *(pair(i, generated, train, found.generated, False, found) for i in by_pixels[:SHOWN]),
        "<h3>Any images, and their nearest</h3>",
        *(pair(i, generated, train, found.generated, True, found) for i in rest),
        "</html>\n",
    ]
    return "\n".join(parts)


def figures(records: Sequence[Record]) -> str:
    """All figures as tables, one per class."""
    told = []
    for klass in dict.fromkeys(item["class"] for item in records):
        part = [item for item in records if item["class"] == klass]
        metrics = list(dict.fromkeys(item["metric"] for item in part))
        told.append(f"<h3>{escape(str(klass).replace('_', ' '))}</h3><table><tr><th>arm<th>data")
        told.append("".join(f"<th>{escape(metric.replace('_', ' '))}" for metric in metrics) + "<th>n</tr>")
        for arm, dataset in dict.fromkeys((item["arm"], item["dataset"]) for item in part):
            mine = {item["metric"]: item for item in part if (item["arm"], item["dataset"]) == (arm, dataset)}
            cells = "".join(f"<td>{cell(mine[m]) if m in mine else ''}" for m in metrics)
            counts = ", ".join(str(n) for n in sorted({item["n"] for item in mine.values()}))
            told.append(f"<tr><td>{escape(arm)}<td>{escape(dataset)}{cells}<td>{counts}</tr>")
        told.append("</table>")
    return "".join(told)


def pair(i: int, generated: Group, train: Group, near: Nearest, by_features: bool, found: Privacy) -> str:
    """A synthetic image beside its nearest training image."""
    other = int(near.by_distance[i] if by_features else near.by_likeness[i])
    side_by_side = np.concatenate([small(generated.images[i]), small(train.images[other])], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(side_by_side).save(buffer, "JPEG", quality=85)
    words = f"{generated.rows[i]['key']} | {train.rows[other]['key']}"
    score = f"distance {near.distance[i]:.3g}" if by_features else f"correlation {near.likeness[i]:.2f}"
    mark = " class=bad" if found.suspicious[i] else ""
    said = escape(str(generated.rows[i].get("prompt", "")))
    return (
        f"<figure{mark}><img alt='generated, nearest' src='{uri(buffer.getvalue(), 'jpeg')}' title='{said}'>"
        f"<figcaption>{escape(words)}<br>{score}</figcaption></figure>"
    )


def small(image: np.ndarray) -> np.ndarray:
    """(H, W) uint8 -> (SIDE, SIDE) uint8."""
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def histogram(found: Privacy) -> bytes:
    """PNG: nearest training image of synthetic and of held-out real images, by features and by pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3), layout="constrained")
    first, second = figure.subplots(1, 2)
    for axis, title, ours, theirs in (
        (first, "distance in features to the nearest training image", found.generated.distance, found.real.distance),
        (second, "highest pixel correlation with a training image", found.generated.likeness, found.real.likeness),
    ):
        bins = np.linspace(min(ours.min(), theirs.min()), max(ours.max(), theirs.max()) + 1e-9, 40).tolist()
        for values, label in ((theirs, "held-out real"), (ours, "generated")):
            axis.hist(values, bins=bins, density=True, alpha=0.55, label=label)
        axis.set_title(title, fontsize=10)
        axis.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()


def uri(data: bytes, kind: str = "png") -> str:
    """Bytes of a picture as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
