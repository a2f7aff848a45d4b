"""Patterns of a .bidsignore file, which are those of gitignore: globs, folders (x/), any depth (**), exceptions (!)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Ignore:
    """What a .bidsignore names. rules: (pattern, whether it is an exception, whether folders only), in its order."""

    root: Path
    rules: list[tuple[re.Pattern[str], bool, bool]] = field(default_factory=list)

    @classmethod
    def of(cls, root: Path) -> Ignore:
        """The rules of root/.bidsignore; none where there is no such file or it cannot be read."""
        try:
            text = (root / ".bidsignore").read_text(encoding="utf-8-sig", errors="replace")
        except OSError:
            return cls(root)
        rules = []
        for line in text.splitlines():
            line = line.strip()
            if line and not line.startswith("#"):
                unless = line.startswith("!")
                rules.append((_regex(line.removeprefix("!")), unless, line.endswith("/")))
        return cls(root, rules)

    def names(self, path: Path) -> bool:
        """Whether a file is ignored, by itself or with a folder that it lies in."""
        if not self.rules or not path.is_relative_to(self.root):
            return False
        parts = path.relative_to(self.root).parts
        return any(self._says("/".join(parts[:k]), k < len(parts)) for k in range(1, len(parts) + 1))

    def _says(self, inner: str, is_folder: bool) -> bool:
        """What the last rule that fits one path below the root says."""
        fitting = [
            unless for rule, unless, folders in self.rules if (is_folder or not folders) and rule.fullmatch(inner)
        ]
        return bool(fitting) and not fitting[-1]


def _regex(pattern: str) -> re.Pattern[str]:
    """A gitignore pattern as a regular expression for paths with forward slashes."""
    body = pattern.rstrip("/")
    anchored = "/" in body
    text = body.lstrip("/")
    out = "" if anchored else "(?:.*/)?"
    k = 0
    while k < len(text):
        rest = text[k:]
        bracket = re.match(r"\[(!?)([^\]]+)\]", rest)
        if rest.startswith("**/"):
            out, k = f"{out}(?:[^/]+/)*", k + 3
        elif rest in ("**", "/**"):
            out, k = f"{out}{'/' if rest[0] == '/' else ''}.+", len(text)
        elif bracket:
            inside = bracket.group(2).replace("\\", r"\\")
            out, k = f"{out}[{'^' if bracket.group(1) else ''}{inside}]", k + bracket.end()
        elif rest[0] == "\\" and len(rest) > 1:
            out, k = out + re.escape(rest[1]), k + 2
        else:
            out, k = out + {"*": "[^/]*", "?": "[^/]"}.get(rest[0], re.escape(rest[0])), k + 1
    return re.compile(out)
