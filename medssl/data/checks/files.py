"""What a look into the image files shows: headers of all, voxels of a sample, copies of one another."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medssl.data.checks.voxels import absurd, unusable
from medssl.data.loading.pool import in_order
from medssl.data.manifest.copies import file_mark
from medssl.data.volumes.image_files import NIFTI, data_file, suffix_of
from medssl.data.volumes.reference import Reference, parse
from medssl.data.volumes.scan import Header
from medssl.data.volumes.stored_arrays import sample_bytes
from medssl.data.volumes.volume import read_header, read_volume
from medssl.errors import UserError
from medssl.tables.pointers import stands_in

PARALLEL_FROM = 50
FORM_TOLERANCE = 0.1  # mm
_SLACK = 1 << 20  # bytes that may stand behind the voxels, or before them where a header does not say how many
_WRAP = 1 << 32  # gzip states lengths modulo this
_GZIP = b"\x1f\x8b"
_PACK_INSIDE = (".nrrd", ".nhdr", ".mha", ".mhd", ".mnc")  # their voxels may be packed, or in another file


@dataclass(frozen=True)
class FileFacts:
    """What is known of one image file. code, text: the reason why it cannot be used, "" where it can.

    conflict: what sform and qform disagree on. units: what is said of lengths that are not in mm. absurd: what is
    said of values that no tissue has. mark: a cheap fingerprint, equal for copies of a file.
    content: sha256 of the voxels in RAS; "" where they were not read.
    """

    path: str
    code: str = ""
    text: str = ""
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    orientation: str = ""
    conflict: str = ""
    units: str = ""
    absurd: str = ""
    mark: str = ""
    content: str = ""


def examine(job: tuple[str, bool]) -> FileFacts:
    """Look at one file: its header, and its voxels where the second value is True.

    The length that a gzip file states at its end, or the length of a plain one, is held against the header, so
    that files cut short are found without unpacking; where they do not fit, the voxels are read after all. Whatever
    goes wrong with one file is told of that file: the check goes on with the next.
    """
    path, deep = Path(job[0]), job[1]
    try:
        return _examined(path, deep)
    except Exception as error:  # also what no reader foresaw
        reason = " ".join(str(error).split())[-160:] or type(error).__name__
        text = f"cannot be made sense of ({reason}); copy or convert it again, or drop the row"
        return FileFacts(str(path), code="unreadable", text=text)


def _examined(path: Path, deep: bool) -> FileFacts:
    """``examine``, where nothing is odder than the formats allow."""
    facts, reference = FileFacts(str(path)), parse(path)
    absent = reference.absent()
    if (absent or reference.part) and (reason := _absent(reference, absent)):
        return replace(facts, code="missing-file", text=reason)
    state = reference.file.stat()
    if state.st_size == 0 and stat.S_ISREG(state.st_mode):
        return replace(facts, code="empty", text="is empty (0 bytes); copy it again or drop the row")
    try:
        header = read_header(path)
        voxels = data_file(reference.file)
        mark = sample_bytes(reference) if reference.part else file_mark(voxels).encode()
    except UserError as error:
        if reason := _absent(reference, None):
            return replace(facts, code="missing-file", text=reason)
        return _unreadable(facts, path, error)
    shape, spacing = header.ras
    stored = header.shape[: header.ndim]
    facts = replace(
        facts,
        shape=shape if header.channels == 1 else (header.channels, *shape),
        spacing=spacing,
        orientation=header.orientation,
        conflict=_conflict(header, path),
        units=header.units,
        mark=hashlib.sha256(mark).hexdigest(),
    )
    if 0 in stored or not stored:
        return replace(facts, code="empty", text=f"has shape {_by(stored) or None} and so no voxel; drop the row")
    if header.ndim < 3:
        text = f"has shape {_by(stored)}, so {header.ndim} dimensions; scans are 3D, so drop the row"
        return replace(facts, code="2d", text=text)
    if header.ndim > 3 and header.channels == 1:
        rule = "choose one volume or average them, since scans are 3D"
        return replace(facts, code="4d", text=f"has shape {_by(stored)}, so {header.ndim} dimensions; {rule}")
    if not deep and (reference.part or _fits(header, path)):
        return facts
    try:
        data = read_volume(path).data
    except UserError as error:
        return _unreadable(facts, path, error)
    code, text = unusable(data)
    digest = hashlib.sha256(repr(data.shape).encode() + np.ascontiguousarray(data).tobytes()).hexdigest()
    return replace(facts, code=code, text=text, content=digest, absurd="" if code else absurd(data))


def _absent(reference: Reference, absent: Path | None) -> str:
    """Which file behind a reference is ``absent``, or only stands in for its content; "" where all are here."""
    for file in reference.files:
        if reason := stands_in(file) or ("does not exist; correct the path or drop the row" if file == absent else ""):
            return reason if file == reference.file else f"needs the mask {file}, which {reason}"
    return ""


def _unreadable(facts: FileFacts, path: Path, error: UserError) -> FileFacts:
    text = str(error).removeprefix(str(path)).strip()
    if text.startswith("is truncated") or (not parse(path).part and _ends_early(data_file(path))):
        return replace(facts, code="truncated", text="is truncated: it ends before its data do; copy it again")
    return replace(facts, code="unreadable", text=text)


def _ends_early(path: Path) -> bool:
    """Whether a gzip stream stops in the middle, or there are fewer bytes than the header promises."""
    if suffix_of(path) in _PACK_INSIDE or not path.is_file():
        return False
    length, promised = 0, 0
    try:
        promised = _promised(read_header(path))
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP
        with gzip.open(path) if packed else path.open("rb") as stream:
            while block := stream.read(1 << 22):
                length += len(block)
                if promised and length > promised + _SLACK:  # whatever follows, it did not end early
                    return False
        return length < promised
    except EOFError:
        return True
    except (OSError, zlib.error, UserError):
        return False


def _fits(header: Header, path: Path) -> bool:
    """Whether a file is as long as its header says, or a little longer."""
    length, packed = _length(data_file(path))
    more = length - _promised(header)
    return 0 <= (more % _WRAP if packed else more) < _SLACK


def _promised(header: Header) -> int:
    """Bytes that a file with this header has at least, unpacked; 0 for types without a size."""
    try:
        return header.offset + int(np.prod(header.shape, dtype=np.int64)) * np.dtype(header.dtype).itemsize
    except TypeError:
        return 0


def _length(path: Path) -> tuple[int, bool]:
    """Bytes of the file, unpacked; of a gzip file (True) as it states them at its end, modulo 2^32."""
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP
        size = stream.seek(-4, os.SEEK_END) + 4
        return int.from_bytes(stream.read(4), "little") if packed else size, packed


def _conflict(header: Header, path: Path) -> str:
    """How sform and qform disagree, or that neither is set; "" where all is well or the format has none."""
    if header.form_conflict > FORM_TOLERANCE:
        return (
            f"sform and qform place the same voxel up to {header.form_conflict:.1f} mm apart (the sform is used); "
            "find out which one is right"
        )
    if suffix_of(path) in NIFTI and header.sform is None and header.qform is None:
        return "neither sform nor qform is set, so left and right are a guess; take the file from its source again"
    return ""


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def survey(paths: Sequence[str], sample: int, progress: bool, workers: int | None = None) -> list[FileFacts]:
    """Facts of each path: all headers, the voxels of ``sample`` files evenly spread over the list.

    Files whose cheap fingerprints are equal have their voxels read too, so that copies are found among all
    files and not only in the sample. More than 50 files are read by several processes.
    """
    deep = set(np.linspace(0, len(paths) - 1, min(sample, len(paths))).round().astype(int).tolist())
    jobs = [(path, k in deep) for k, path in enumerate(paths)]
    facts = _map(jobs, "reading scans", progress, workers)
    marks = Counter(fact.mark for fact in facts if fact.mark)
    again = [k for k, fact in enumerate(facts) if not fact.content and not fact.code and marks[fact.mark] > 1]
    for k, fact in zip(again, _map([(paths[k], True) for k in again], "comparing", progress, workers), strict=True):
        facts[k] = fact
    return facts


def _map(jobs: list[tuple[str, bool]], title: str, progress: bool, workers: int | None) -> list[FileFacts]:
    """``examine`` over the jobs, in order; a few are not worth the processes."""
    try:
        return in_order(examine, jobs, workers if len(jobs) > PARALLEL_FROM else 1, progress, title)
    except BrokenProcessPool as error:
        raise UserError(
            "a process that read scans was stopped from outside, most often for lack of memory; "
            "check again with --workers 1"
        ) from error


def duplicates(facts: Sequence[FileFacts]) -> list[list[int]]:
    """Groups of places in ``facts`` whose voxels are identical; unusable files are left out."""
    groups: dict[str, list[int]] = {}
    for k, fact in enumerate(facts):
        if fact.content and not fact.code:
            groups.setdefault(fact.content, []).append(k)
    return [group for group in groups.values() if len(group) > 1]


def oddities(facts: Sequence[FileFacts]) -> Iterator[tuple[int, str, str]]:
    """(place in ``facts``, code, text) of headers that conflict, or differ from those of most files."""
    usable = [k for k, fact in enumerate(facts) if fact.shape and fact.code not in {"2d", "4d", "empty"}]
    for k in usable:
        said = (("sform-qform", facts[k].conflict), ("units", facts[k].units), ("absurd-voxels", facts[k].absurd))
        yield from ((k, code, text) for code, text in said if text)
    views: tuple[tuple[str, Callable[[FileFacts], Hashable], Callable[[FileFacts], str], str], ...] = (
        (
            "orientation",
            lambda fact: fact.orientation,
            lambda fact: fact.orientation,
            "scans are turned to RAS when read, so make sure that the header is right",
        ),
        (
            "spacing",
            lambda fact: tuple(round(mm, 2) for mm in fact.spacing),
            lambda fact: f"{_by(fact.spacing)} mm",
            "set a spacing in the preprocessing recipe",
        ),
        (
            "shape",
            lambda fact: fact.shape,
            lambda fact: _by(fact.shape),
            "set a shape in the preprocessing recipe",
        ),
    )
    for code, key, say, remedy in views:
        counts = Counter(key(facts[k]) for k in usable)
        if len(counts) < 2:
            continue
        common, often = counts.most_common(1)[0]
        example = next(facts[k] for k in usable if key(facts[k]) == common)
        for k in usable:
            if key(facts[k]) != common:
                most = f"most files ({often} of {len(usable)}) have {say(example)}"
                yield k, code, f"{code} is {say(facts[k])}, {most}; {remedy}"
