"""A user's text in a Markdown page: it is text there, never a heading, a link, an image, HTML or terminal control."""

from __future__ import annotations

import re

from cxrsynth.console import printable

# What would begin markup: anywhere, at the beginning of a paragraph, or at the edge of a word.
SPECIAL = re.compile(r"[\\`*\[\]|~]|^[#+-]|(?<![^\W_])_|_(?![^\W_])")


def cell(text: object) -> str:
    """Text in one line that means nothing but itself, also in a table.

    An image in it would be loaded from wherever it says by everybody who opens the page.
    """
    plain = SPECIAL.sub(lambda found: f"\\{found[0]}", one_line(text))
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(text: object) -> str:
    """Text as code in one line, fenced by more backticks than it has in a row."""
    plain = one_line(text).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    space = " " if "`" in plain else ""
    return f"{fence}{space}{plain}{space}{fence}"


def one_line(text: object) -> str:
    """Text without line breaks; what a terminal would take for a command is written out."""
    return printable(" ".join(str(text).split()))
