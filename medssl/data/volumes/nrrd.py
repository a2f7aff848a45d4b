"""Header of NRRD (``.nrrd``, ``.nhdr``), read strictly.

A first line ``NRRD000X``, then one ``field: value`` or ``key:=value`` or comment a line, up to an empty line, behind
which the voxels follow unless ``data file`` names another file. Source: Definition of NRRD File Format
(https://teem.sourceforge.net/nrrd/format.html).
"""

from __future__ import annotations

import re
from pathlib import Path

from medssl.data.volumes.text_header import (
    MOST_BYTES,
    TextHeader,
    axes,
    file_beside,
    header_lines,
    refuse,
    refuse_numbers,
    sizes,
)

_MAGIC = re.compile(r"NRRD000[1-5]")
_LONG_LONG = ("long long", "long long int")
_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(
        ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"), 4
    ),
    **dict.fromkeys(("longlong", *_LONG_LONG, *(f"signed {name}" for name in _LONG_LONG), "int64", "int64_t"), 8),
    **dict.fromkeys(("ulonglong", *(f"unsigned {name}" for name in _LONG_LONG), "uint64", "uint64_t", "double"), 8),
}
_PACKED = {"raw": "", "gzip": "gzip", "gz": "gzip"}
_PER_AXIS = ("spacings", "thicknesses", "axismins", "axismaxs")
_FIELDS = {
    *_PER_AXIS, "blocksize", "byteskip", "centerings", "centers", "content", "datafile", "dimension", "encoding",
    "endian", "kinds", "labels", "lineskip", "max", "measurementframe", "min", "number", "oldmax", "oldmin",
    "sampleunits", "sizes", "space", "spacedimension", "spacedirections", "spaceorigin", "spaceunits", "type", "units",
}  # fmt: skip
"""Names of fields, without their blanks."""
_LONGEST_FIELD = 512
"""Letters of a field: the library that reads them writes what it says of a bad one into memory that ends at 1024."""
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
_VECTOR = rf"(?:\( *{_NUMBER}(?: *, *{_NUMBER})* *\)|none)"
_VECTORS = re.compile(rf"{_VECTOR}(?: +{_VECTOR})*")


def read_nrrd(path: Path) -> TextHeader:
    """What the header says of the voxels. Errors: VolumeError where a line, a field or a value breaks a rule."""
    fields, end = _fields(path)
    for name in ("dimension", "sizes", "type", "encoding"):
        if name not in fields:
            refuse(path, f"cannot be read as NRRD: its header has no field {name}")
    ndim = axes(path, "dimension", fields["dimension"])
    shape = sizes(path, "sizes", fields["sizes"], ndim)
    kind, encoding = fields["type"].lower(), fields["encoding"].lower()
    if kind not in _TYPES:
        refuse(path, f"holds {ascii(kind[:40])[1:-1]} values (type), which are no numbers")
    if encoding not in _PACKED:
        refuse(path, f"holds its voxels as {ascii(encoding[:40])[1:-1]} (encoding), but only raw and gzip are read")
    _refuse_values(path, fields, ndim)
    name = fields.get("datafile", "")
    voxels = file_beside(path, "data file", name) if "datafile" in fields else path
    skipped, lines = fields.get("byteskip", "0"), fields.get("lineskip", "0")
    if lines != "0" or skipped not in ("0", "-1") or (skipped == "-1" and encoding != "raw"):
        refuse(path, f"skips {skipped[:40]} bytes and {lines[:40]} lines before its voxels, which is not read")
    offset = None if skipped == "-1" and name else 0 if name else end
    return TextHeader(shape, _TYPES[kind], voxels, offset, _PACKED[encoding])


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Values by the name of the field, and the first byte behind the empty line that ends the header."""
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES)
    gap = re.search(rb"\n\r?\n", content)
    if gap is None and len(content) == MOST_BYTES:
        refuse(path, "cannot be read as NRRD: its header does not end within 64 KiB")
    lines = header_lines(path, content if gap is None else content[: gap.start()])
    if not _MAGIC.fullmatch(lines[0]):
        refuse(path, "cannot be read as NRRD: it does not begin with NRRD0001 to NRRD0005")
    fields: dict[str, str] = {}
    keys: set[str] = set()
    for line in lines[1:]:
        if line.startswith("#") or not line:
            continue
        key, value = _line(path, line)
        if key in keys:
            refuse(path, f"states {ascii(key[:40])[1:-1]} twice")
        keys.add(key)
        if key == "datafile":
            file_beside(path, "data file", value)
        if not key.endswith(":="):
            fields[key] = value
    if gap is None and "datafile" not in fields:
        refuse(path, "is truncated: no empty line ends its header, so it has no voxels")
    if gap is not None and "datafile" in fields and (content[gap.end() :].strip() or len(content) == MOST_BYTES):
        refuse(path, "goes on behind its header, but names another file of its voxels")
    return fields, len(content) if gap is None else gap.end()


def _line(path: Path, line: str) -> tuple[str, str]:
    """A field and its value, or a key that ends in ``:=`` and its value."""
    colon = line.find(":")
    if line[colon : colon + 2] == ":=":
        return line[: colon + 2], line[colon + 2 :]
    name = line[:colon].lower().replace(" ", "")
    if colon < 1 or line[0].isspace() or name not in _FIELDS or line[colon : colon + 2] not in (": ", ":"):
        refuse(path, f'cannot be read as NRRD: "{ascii(line[:40])[1:-1]}" is no field that the format has')
    if len(line) > _LONGEST_FIELD and name != "content":
        refuse(path, f"has {len(line)} letters in its field {line[:colon]}, more than {_LONGEST_FIELD}")
    return name, line[colon + 1 :].strip()


def _refuse_values(path: Path, fields: dict[str, str], ndim: int) -> None:
    """Refuse values that are not of their field's kind."""
    for name in _PER_AXIS:
        if name in fields:
            refuse_numbers(path, name, fields[name], ndim, also=("nan",))
    for name in ("spacedirections", "spaceorigin", "measurementframe"):
        if name in fields and not _VECTORS.fullmatch(fields[name]):
            refuse(path, f"states {ascii(fields[name][:40])[1:-1]} ({name}), but vectors such as (1,0,0) are needed")
    if "blocksize" in fields:
        refuse(path, "holds blocks of bytes (block size), which are no numbers")
