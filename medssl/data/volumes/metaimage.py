"""Header of MetaImage (``.mha``, ``.mhd``), read strictly.

One ``Key = Value`` a line, up to ``ElementDataFile``, behind which the voxels follow where it says ``LOCAL``. Keys that
the format does not have (such as DICOM tags that a program kept) are let through, unless they resemble one of its own.
Source: MetaIO's documentation (https://itk.org/Wiki/MetaIO/Documentation), and what SimpleITK writes.
"""

from __future__ import annotations

from pathlib import Path

from medssl.data.volumes.text_header import (
    MOST_BYTES,
    TextHeader,
    axes,
    count,
    file_beside,
    header_lines,
    refuse,
    refuse_numbers,
    sizes,
)

_BYTES = {
    **dict.fromkeys(("CHAR", "UCHAR"), 1),
    **dict.fromkeys(("SHORT", "USHORT"), 2),
    **dict.fromkeys(("INT", "UINT", "LONG", "ULONG", "FLOAT"), 4),
    **dict.fromkeys(("LONG_LONG", "ULONG_LONG", "DOUBLE"), 8),
}
_TYPES = {f"MET_{name}{array}": size for name, size in _BYTES.items() for array in ("", "_ARRAY")}
_SAME = (
    ("Offset", "Position", "Origin"),
    ("TransformMatrix", "Orientation", "Rotation"),
    ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"),
)
"""Several names of one entry."""
_PER_AXIS = ("Offset", "Position", "Origin", "CenterOfRotation", "ElementSpacing", "ElementSize")
_PER_PAIR_OF_AXES = ("TransformMatrix", "Orientation", "Rotation")
_ONE_NUMBER = ("ElementMin", "ElementMax", "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset")
_YES_OR_NO = ("BinaryData", "CompressedData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_KEYS = {
    *_PER_AXIS, *_PER_PAIR_OF_AXES, *_ONE_NUMBER, *_YES_OR_NO, "AcquisitionDate", "AnatomicalOrientation", "Color",
    "Comment", "CompressedDataSize", "DimSize", "DistanceUnits", "ElementDataFile", "ElementNBits",
    "ElementNumberOfChannels", "ElementType", "HeaderSize", "HeaderSizePerSlice", "ID", "ImagePosition", "Modality",
    "Name", "NDims", "ObjectSubType", "ObjectType", "ParentID", "SequenceID", "TransformType",
}  # fmt: skip
_LIKE = {key.lower(): key for key in _KEYS}
_LONGEST_KEY = 200


def read_metaimage(path: Path) -> TextHeader:
    """What the header says of the voxels. Errors: VolumeError where a line, a key or a value breaks a rule."""
    values, end = _entries(path)
    for key in ("NDims", "DimSize", "ElementType"):
        if key not in values:
            refuse(path, f"cannot be read as MetaImage: its header has no {key}")
    if values.get("ObjectType", "Image") != "Image":
        refuse(path, f"is a MetaObject, but no image (ObjectType {values['ObjectType'][:40]})")
    if values["ElementType"] not in _TYPES:
        refuse(path, f"holds {values['ElementType'][:40]} values (ElementType), which are no numbers")
    ndim = axes(path, "NDims", values["NDims"])
    shape = sizes(path, "DimSize", values["DimSize"], ndim)
    channels = count(path, "ElementNumberOfChannels", values.get("ElementNumberOfChannels", "1"))
    if not channels:
        refuse(path, "states 0 channels (ElementNumberOfChannels), so it has no voxel")
    _refuse_values(path, values, ndim)
    name = values["ElementDataFile"]
    voxels, offset = (path, end) if name == "LOCAL" else (file_beside(path, "ElementDataFile", name), 0)
    packed = values.get("CompressedData", "False").lower() in ("true", "1")
    if packed and "CompressedDataSize" not in values:
        refuse(path, "holds compressed voxels, but its header does not state how many bytes (CompressedDataSize)")
    packed_bytes = count(path, "CompressedDataSize", values["CompressedDataSize"]) if packed else None
    header_size = values.get("HeaderSize", "0")
    if header_size not in ("0", "-1") or (packed and header_size == "-1"):
        refuse(path, f"skips {header_size[:40]} bytes before its voxels (HeaderSize), but only 0 or, raw, -1 is read")
    whole = (*shape, channels) if channels > 1 else shape
    where = None if header_size == "-1" and name != "LOCAL" else offset
    return TextHeader(whole, _TYPES[values["ElementType"]], voxels, where, "zlib" if packed else "", packed_bytes)


def _entries(path: Path) -> tuple[dict[str, str], int]:
    """Values by key, and the first byte behind the line of ``ElementDataFile``, which is the last."""
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES)
    values: dict[str, str] = {}
    end = 0
    while "ElementDataFile" not in values:
        stop = content.find(b"\n", end)
        if stop < 0 and (end == len(content) or len(content) == MOST_BYTES):
            refuse(path, "cannot be read as MetaImage: no line of its first 64 KiB says where the voxels are")
        line = header_lines(path, content[end:] if stop < 0 else content[end:stop])[0]
        end = len(content) if stop < 0 else stop + 1
        if line.strip():
            key, value = _entry(path, line)
            if key in values:
                refuse(path, f"states {key[:40]} twice")
            values[key] = value
    if values["ElementDataFile"] == "LOCAL":
        return values, end
    file_beside(path, "ElementDataFile", values["ElementDataFile"])
    if content[end:].strip() or len(content) == MOST_BYTES:
        refuse(path, "goes on behind ElementDataFile, which must be the last line of its header")
    return values, end


def _entry(path: Path, line: str) -> tuple[str, str]:
    key, mark, value = line.partition("=")
    key = key.strip()
    if not mark or not key or ":" in key or len(key) > _LONGEST_KEY or line[0].isspace():
        refuse(path, f'cannot be read as MetaImage: "{ascii(line[:40])[1:-1]}" is no line of the form key = value')
    own = _LIKE.get(key.lower().replace(" ", ""), key)
    if own != key:
        refuse(path, f"has the key {key} in its header, which the format spells {own}")
    return key, value.strip()


def _refuse_values(path: Path, values: dict[str, str], ndim: int) -> None:
    """Refuse values that are not of their key's kind, and two names of one entry that differ."""
    many = {
        **dict.fromkeys(_PER_AXIS, ndim),
        **dict.fromkeys(_PER_PAIR_OF_AXES, ndim**2),
        **dict.fromkeys(_ONE_NUMBER, 1),
    }
    for key, value in values.items():
        if key in many:
            refuse_numbers(path, key, value, many[key])
        if key in _YES_OR_NO and value.lower() not in ("true", "false", "1", "0"):
            refuse(path, f"states {key} {ascii(value[:40])[1:-1]}, which is neither True nor False")
    order = list(values)
    if order.index("NDims") > min(order.index(key) for key in values if key in many or key == "DimSize"):
        refuse(path, "states NDims behind what depends on it; it must come first")
    if values.get("BinaryData", "True").lower() in ("false", "0"):
        refuse(path, "holds its voxels as text (BinaryData False), which is not read")
    if values.get("HeaderSizePerSlice", "0") != "0":
        refuse(path, "has a header in front of every slice (HeaderSizePerSlice), which is not read")
    for names in _SAME:
        if len({values[name].lower() for name in names if name in values}) > 1:
            refuse(path, f"states {' and '.join(name for name in names if name in values)}, which differ")
