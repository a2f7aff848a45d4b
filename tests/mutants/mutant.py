"""A deliberate mistake: a small replacement of text, and the tests that must fail of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Group = Literal["common", "laws", "processes", "own"]
COMMON = ("tests/methods/test_common_laws.py", "tests/methods/test_common.py")
PROCESSES = ("tests/methods/test_distributed.py",)


@dataclass(frozen=True)
class Mutant:
    """In ``file``, the text ``old``, which stands there once, becomes ``new``.

    names: the catalogue names (or parts of test ids) that it concerns, which select from the common checks. own: test
    files of the room. by: whose failure is asked for: the common checks (laws: without the recorded losses, which a new
    method does not have), those with two processes, or the own tests.
    equivalent: why no test can see it; such a mutant must survive.
    """

    name: str
    file: str
    old: str
    new: str
    names: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    by: Group = "common"
    equivalent: str = ""

    def applied(self, root: Path) -> str:
        """The text of the file with the mistake; ValueError unless the old text stands there exactly once."""
        text = (root / self.file).read_text()
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.name}: the text to replace stands {count} times in {self.file}, not once")
        return text.replace(self.old, self.new)

    def selection(self, group: Group | None = None) -> list[str]:
        """Arguments of pytest for the tests of a group, by default those that must fail."""
        group = self.by if group is None else group
        files = {"common": COMMON, "laws": COMMON, "processes": PROCESSES, "own": self.own}[group]
        words = " or ".join(self.names)
        if group == "own" or not words:
            return [*files]
        return [*files, "-k", f"({words}) and not recorded" if group == "laws" else words]
