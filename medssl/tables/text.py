"""Tables of text as people save them: encodings, separators, line ends, quotes; every cell with its line number."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from medssl.errors import ManifestError
from medssl.tables.pointers import stands_in

MARKS = {"\t": "tabs", ",": "commas", ";": "semicolons", " ": "blanks"}
_EXCEL = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


@dataclass(frozen=True)
class Cells:
    """A table as text. header: stripped names. rows: cells as stripped text, every row as long as the header.

    lines: line number of each row (the header is line 1). notes: what was detected and is not the usual.
    """

    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    separator: str
    notes: list[str] = field(default_factory=list)


def decoded(path: Path, notes: list[str]) -> str:
    """Text of a table: UTF-8 with or without BOM, UTF-16, else latin-1 (Windows), which is said in ``notes``.

    Errors: ManifestError in one sentence for a folder, a file that is absent or only stands in for its content
    (git-annex, git-lfs), may not be read, is empty, is a workbook of Excel, or holds no text.
    """
    if reason := stands_in(path):
        raise ManifestError(f"{path} {reason}")
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # such as /dev/zero, which never ends
            raise ManifestError(f"{path} is no file; give the file of the table")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ManifestError(f"{path} does not exist; correct the path") from error
    except IsADirectoryError as error:
        raise ManifestError(f"{path} is a folder; give the file of the table") from error
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    if not content.strip():
        raise ManifestError(f"{path} is empty; it needs a header line and one line per row")
    if content.startswith(_EXCEL):
        raise ManifestError(f"{path} is an Excel workbook, whatever its name; save it as CSV in UTF-8")
    text, encoding = _text(content)
    if text is None or "\x00" in text:
        raise ManifestError(f"{path} is not a text file; save the table as CSV in UTF-8")
    if mark := re.match(r"sep=(.)\s*[\r\n]", text, re.IGNORECASE):
        raise ManifestError(f'{path} row 1 is Excel\'s mark "sep={mark.group(1)}", not a header; delete that line')
    if encoding != "UTF-8":
        notes.append(f"{path.name} was read as {encoding} text; save it as UTF-8 where names look wrong")
    return text


def _text(content: bytes) -> tuple[str | None, str]:
    """Text and the name of its encoding; None where no encoding gives text."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if content.startswith(mark):
            try:
                return content.decode(encoding), "UTF-8" if encoding == "utf-8-sig" else "UTF-16"
            except UnicodeDecodeError:
                return None, ""
    start = content[:4096]
    for encoding, zeros in (("utf-16-le", start[1::2]), ("utf-16-be", start[0::2])):
        if len(zeros) > 3 and zeros.count(0) > 0.7 * len(zeros):
            try:
                return content.decode(encoding), "UTF-16"
            except UnicodeDecodeError:
                return None, ""
    try:
        return content.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError:
        pass
    if any(byte < 9 or 13 < byte < 32 for byte in start):
        return None, ""
    try:
        return content.decode("cp1252"), "Windows (cp1252)"
    except UnicodeDecodeError:
        return content.decode("latin-1"), "latin-1"


def separator_of(path: Path, text: str, notes: list[str]) -> str:
    """The separator: by the file's suffix where the header line holds it, else the one that it holds most of.

    Blanks count where there is none of the others and every line has as many words as the header; that is said.
    """
    lines = [line for line in text.splitlines()[:50] if line.strip()]
    line = _outside_quotes(lines[0])
    preferred = "\t" if path.suffix.lower() in (".tsv", ".tab", ".txt") else ","
    if line.count(preferred) and line.count(preferred) >= line.count(";") * (preferred == ","):
        return preferred
    best = max(("\t", ",", ";"), key=line.count)
    if line.count(best):
        if best != preferred:
            notes.append(f"{path.name} is separated by {MARKS[best]}, not by {MARKS[preferred]}")
        return best
    words = len(line.split())
    if words > 1 and sum(len(other.split()) == words for other in lines) > len(lines) / 2:
        notes.append(f"{path.name} is separated by blanks, not by {MARKS[preferred]}")
        return " "
    return preferred


def read_cells(path: Path, notes: list[str] | None = None) -> Cells:
    """All cells of a table as stripped text with the line number of each row; blank lines are dropped.

    Rows may lack cells at the end; columns without a name are dropped where they are empty or number the rows.
    Errors: ManifestError naming file and row: no header, a column named twice or not at all, more cells than the
    header, quotes that are not closed, or (separated by blanks) another number of words than the header.
    """
    said: list[str] = []
    text = decoded(path, said)
    separator = separator_of(path, text, said)
    numbered = _split(path, text, separator)
    refuse_swallowed(path, text, separator, len(numbered[0][1]) if numbered else 0)
    if not numbered:
        raise ManifestError(f"{path} is empty; it needs a header line and one line per row")
    names = [name.strip() for name in numbered[0][1]]
    while names and not names[-1]:
        names.pop()
    rows = [(line, [cell.strip() for cell in row]) for line, row in numbered[1:]]
    for line, row in rows:
        if any(row[len(names) :]) or (separator == " " and len(row) != len(names)):
            raise ManifestError(
                f"{path} row {line} ({row[0]}): has {len(row)} cells, but the header names {len(names)} columns; "
                "quote cells that hold the separator"
            )
    unnamed = [k for k, name in enumerate(names) if not name or name.startswith("Unnamed:")]
    for k in unnamed:  # of a spreadsheet's row numbers nothing is lost
        cells = [row[k] for _, row in rows if k < len(row)]
        if not names[k] and k > 0 and any(cells):
            raise ManifestError(f"{path} row 1 has a column without a name (column {k + 1}); give it one")
    kept = [k for k in range(len(names)) if k not in unnamed]
    twice = [name for name, n in Counter(names[k] for k in kept).items() if n > 1]
    if twice:
        raise ManifestError(f'{path} row 1 has the column "{twice[0]}" twice; give every column its own name')
    if notes is not None:
        notes += said
    return Cells(
        [names[k] for k in kept],
        [[row[k] if k < len(row) else "" for k in kept] for _, row in rows],
        [line for line, _ in rows],
        separator,
        said,
    )


def refuse_swallowed(path: Path, text: str, separator: str, columns: int) -> None:
    """Refuse a quote that takes whole rows into one cell: a stray one pairs with the next, however far below it stands.

    A quoted cell may span lines. But where every line of it, cut at the separator, has as many cells as the header, the
    lines are rows. Errors: ManifestError naming the rows.
    """
    if '"' not in text or columns < 2:
        return
    lines = re.split(r"\r\n|\r|\n", text)
    reader, begin = csv.reader(io.StringIO(text, newline=""), delimiter=separator), 1
    for _ in reader:
        spanned = lines[begin - 1 : reader.line_num]
        if len(spanned) > 1 and all(line.count(separator) == columns - 1 for line in spanned):
            if text.count('"') % 2 and reader.line_num >= len(text.splitlines()):
                raise ManifestError(f"{path} row {begin} opens a quote that is never closed; close it or take it out")
            raise ManifestError(
                f"{path} row {begin} opens a quote that row {reader.line_num} closes, and every line between them has "
                f"the cells of a row; take the stray quote out"
            )
        begin = reader.line_num + 1


def _split(path: Path, text: str, separator: str) -> list[tuple[int, list[str]]]:
    """(line, cells) of every line that holds anything; the line is the one where a row begins."""
    if separator == " ":
        lines = [(n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
        return [(n, next(csv.reader([" ".join(line.split())], delimiter=" "))) for n, line in lines]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=False)
    out, begin = [], 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                out.append((begin, row))
            begin = reader.line_num + 1
    except csv.Error as error:
        if "field limit" in str(error):
            raise ManifestError(
                f"{path} row {begin} has a cell of more than {csv.field_size_limit()} letters; shorten it, or close a "
                "quote that is open"
            ) from error
        raise ManifestError(f"{path} row {begin} cannot be parsed ({error}); check its quotes") from error
    if out and text.count('"') % 2 and out[-1][0] + 1 < begin:
        raise ManifestError(f"{path} row {out[-1][0]} opens a quote that is never closed; close it or take it out")
    return out


def _outside_quotes(line: str) -> str:
    """The line without what stands in quotes."""
    return "".join(part for k, part in enumerate(line.split('"')) if k % 2 == 0)
