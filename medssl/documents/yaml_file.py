"""Reads and writes YAML: recipes, presets, studies and values of overrides, as plain values and within limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from medssl.documents.json_file import first_bytes
from medssl.documents.shape import DEEPEST, unfit
from medssl.errors import RecipeError

LARGEST_BYTES = 256 << 10
"""Size of a YAML file; the longest recipe that medssl writes is below 8 KB."""
MOST_VALUES = 20_000
"""Values of a document, where a reference (*name) counts as all that it stands for."""
LARGEST_INTEGER = 2**63

_PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file in UTF-8, with or without a byte-order mark.

    Errors: RecipeError in one sentence that names the file and the line; see :func:`parse_yaml`.
    """
    content = first_bytes(path, LARGEST_BYTES + 1, "give a YAML file", RecipeError)
    _refuse_long(content, str(path))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RecipeError(f"{path} is no UTF-8 text; save it as plain YAML") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str, *, lines: bool = True) -> Any:
    """Plain values (null, bool, int, float, str, lists and mappings with text as keys) of one YAML document.

    where: starts the sentence of an error. lines: whether it names the line. A reference (``*name``, ``<<: *name``)
    gives a copy of what it stands for.
    Dates and times stay text; 1e-3 is a number. Errors: RecipeError naming the line, for what is no YAML, a key that
    stands twice or is no text, a tag (``!!python/...``), several documents, a reference to what it stands in, and for a
    document that is too large, too deep, or becomes too large by its references.
    """
    _refuse_long(text, where)
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        value = loader.get_single_data()
    except yaml.reader.ReaderError as problem:
        number = text.count("\n", 0, problem.position) + 1
        raise RecipeError(
            f"{where} line {number}: this is no valid YAML (it holds the character {problem.character:#x}, which text "
            "does not have); save it as plain text"
        ) from None
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = f" line {mark.line + 1}" if mark and lines else ""
        reason = str(problem.problem or problem.context or "")
        if isinstance(problem, yaml.composer.ComposerError) and "single document" in str(problem.context):
            reason = "a second document begins (---); keep one"
        elif not isinstance(problem, _Refused):
            reason = f"this is no valid YAML ({reason.replace('unexpected ', '')})"
        raise RecipeError(f"{where}{line}: {reason}") from None
    finally:
        if loader is not None:
            loader.dispose()
    if fault := unfit(value):
        raise RecipeError(f"{where} {fault}; write it plainer")
    return _copied(value)


def _refuse_long(content: bytes | str, where: str) -> None:
    if len(content) > LARGEST_BYTES:
        raise RecipeError(f"{where} is longer than {LARGEST_BYTES >> 10} KiB, which no recipe needs; shorten it")


def to_yaml(content: Any, width: int = 80) -> str:
    """Plain values as YAML, keys in their order."""
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=width))


class _Refused(yaml.MarkedYAMLError):
    """A rule of ours that a document breaks; ``problem`` is the rest of the sentence."""


class _Loader(yaml.SafeLoader):
    """PyYAML's own reader of safe values, with limits that hold while it reads."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.values, self.level = 0, 0
        self.sizes: dict[str | None, int] = {}  # values under each anchor that is complete

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next value; counted, also where it is a reference."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self.sizes:
                self._refuse(f"*{event.anchor} stands inside itself; write out what is meant", event.start_mark)
            self._count(self.sizes.get(event.anchor, 1), event.start_mark)
            return super().compose_node(parent, index)
        before = self.values
        self._count(1, event.start_mark)
        self.level += 1
        if self.level > DEEPEST:
            self._refuse(f"there are more than {DEEPEST} levels inside each other; write it plainer", event.start_mark)
        node = super().compose_node(parent, index)
        self.level -= 1
        if event.anchor is not None:
            self.sizes[event.anchor] = self.values - before
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """The plain value of a node; only tags of plain values are known."""
        if node.tag not in _PLAIN:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            self._refuse(f"the tag {tag:.60} is not allowed; write a plain value", node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):  # "!!int x", "0x_", 5,000 digits
            kind = node.tag.rpartition(":")[2]
            self._refuse(f"{str(node.value)[:40]!r} cannot be read as {kind}; correct it, or quote it", node.start_mark)

    def compose_mapping_node(self, anchor: Any) -> Any:
        """A mapping whose keys are text and stand there once; keys merged into it (``<<``) give way to its own."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if name is None or key.tag != "tag:yaml.org,2002:str":
                shown = "a key is a list or mapping" if name is None else f"the key '{name:.40}' is no text"
                self._refuse(f"{shown}; keys are text, so quote or correct it", key.start_mark)
            if name in seen:
                self._refuse(f"the key '{name:.60}' stands twice; leave one out", key.start_mark)
            seen.add(name)
        return node

    def whole_number(self, node: Any) -> int:
        """A whole number of up to 64 bits."""
        value = int(self.construct_yaml_int(node)) if len(node.value) <= 80 else LARGEST_INTEGER
        if abs(value) >= LARGEST_INTEGER:
            self._refuse(f"the whole number {node.value:.20} is too large; at most 2^63 - 1", node.start_mark)
        return value

    def _count(self, more: int, mark: Any) -> None:
        self.values += more
        if self.values > MOST_VALUES:
            self._refuse(f"there are more than {MOST_VALUES} values, references counted; shorten it", mark)

    def _refuse(self, reason: str, mark: Any) -> None:
        raise _Refused(problem=reason, problem_mark=mark)


class _Dumper(yaml.SafeDumper):
    """PyYAML's own writer, which quotes text that the reader would take for a number."""


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.whole_number)
# dates stay text: no recipe has one
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

# YAML 1.1 reads 1e-3, which has no point, as text
_SCIENTIFIC = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver("tag:yaml.org,2002:float", _SCIENTIFIC, list("-+.0123456789"))


def _copied(value: Any) -> Any:
    """Lists and mappings anew, so that what two references stand for can be changed apart."""
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value
