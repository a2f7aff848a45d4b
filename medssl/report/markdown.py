"""Text from files as plain words in Markdown: nothing in it becomes a table, a list, a link or HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MARKS = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)|!(?=\[)")
_START = re.compile(r"^(\d+)([.)])(?=\s|$)|^([-+#>=])")


def md(text: str) -> str:
    """Plain text for Markdown, on one line.

    >>> print(md("- <b>site|1</b> *"))
    \\- &lt;b&gt;site\\|1&lt;/b&gt; \\*
    """
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    marked = _MARKS.sub(lambda found: f"\\{found[0]}", flat)
    return _START.sub(lambda found: f"{found[1] or ''}\\{found[2] or found[3]}", marked)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a table of plain text."""
    names = [md(name) for name in head]
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return [*lines, *(f"| {' | '.join(md(cell) for cell in row)} |" for row in rows)]
