"""Awkward values and damaged bytes, drawn from a generator: the same seed, the same damage."""

from __future__ import annotations

import json
import random
from typing import Any

TEXTS = (
    "", " ", "a", "ä" * 3, "胸部", "x" * 300, "../../victim/precious.txt", "/etc/passwd", "C:\\x", "a/b", ".", "..",
    "~", "-1", "0", "1e999", "nan", "null", "true", "[1, 2]", "{a: b}", "{row}", "{", "%s", "$x$", "[b]bold[/b]",
    "\x1b[31mred", "<script>alert(1)</script>", "![x](http://elsewhere/x.png)", "a\nb", "a,b;c\td", '"', "'", "`",
    "\\", "|", "con", "a\u202eb", "\ufeffa", "e\u0301", "=1+1", "someone/model", "test", "train", "right_lung",
)  # fmt: skip
NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 16, 255, 256, 65536, 2**31, 2**63, 10**12, 10**30, 0.0, 0.5, -0.5, 1e-12, 1e308, float("inf"),
    float("nan"), True, False,
)  # fmt: skip


def value(rng: random.Random) -> Any:
    """Any value that JSON or YAML may hold."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(TEXTS)
    if kind == 1:
        return rng.choice(NUMBERS)
    if kind == 2:
        return None
    if kind == 3:
        return [rng.choice(TEXTS), rng.choice(NUMBERS)][: rng.randrange(3)]
    if kind == 4:
        return {rng.choice(TEXTS): rng.choice(NUMBERS)}
    deep: Any = rng.choice(TEXTS)
    for _ in range(rng.choice([3, 40, 2000])):
        deep = [deep]
    return deep


def mutated(rng: random.Random, body: Any) -> Any:
    """A tree of plain values with one place changed, removed, doubled or added."""
    if isinstance(body, dict) and body and rng.random() < 0.85:
        name = rng.choice(list(body))
        changed = dict(body)
        what = rng.randrange(8)
        if what == 0:
            del changed[name]
        elif what == 1:
            changed[rng.choice(TEXTS) or "x"] = changed.pop(name)
        elif what == 2:
            changed[rng.choice(TEXTS) or "y"] = value(rng)
        elif what == 3 or not isinstance(changed[name], dict | list):
            changed[name] = value(rng)
        else:
            changed[name] = mutated(rng, changed[name])
        return changed
    if isinstance(body, list) and body and rng.random() < 0.85:
        place = rng.randrange(len(body))
        what = rng.randrange(5)
        if what == 0:
            return [*body[:place], *body[place + 1 :]]
        if what == 1:
            return [*body, body[place]]
        if what == 2:
            return [*body[:place], value(rng), *body[place + 1 :]]
        return [*body[:place], mutated(rng, body[place]), *body[place + 1 :]]
    return value(rng)


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Bytes cut, flipped, doubled, replaced, or in another encoding."""
    what = rng.randrange(9)
    if what == 0 or not data:
        return rng.randbytes(rng.choice([0, 1, 7, 300, 5000]))
    place = rng.randrange(len(data))
    if what == 1:
        return data[:place]
    if what == 2:
        return b""
    if what == 3:
        return data[:place] + rng.randbytes(rng.randrange(1, 9)) + data[place + 1 :]
    if what == 4:
        return data[:place] + rng.choice(TEXTS).encode("utf-8", "surrogateescape") + data[place:]
    if what == 5:
        return data * 2
    if what == 6:
        return data.decode("latin-1").encode(rng.choice(["utf-16", "utf-32", "utf-8-sig"]))
    if what == 7:
        lines = data.split(b"\n")
        rng.shuffle(lines)
        return b"\n".join(lines)
    return data.replace(rng.choice([b",", b"\n", b'"', b":", b"0"]), rng.choice([b";", b"", b"\r", b"\t", b"\0", b"9"]))


def json_text(body: Any) -> bytes:
    """A tree as JSON, whatever is in it; what is too deep for the writer becomes text that is too deep for readers."""
    try:
        return json.dumps(body).encode("utf-8", "surrogatepass")
    except RecursionError:
        return b"[" * 5000 + b"]" * 5000
