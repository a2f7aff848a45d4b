"""Of the images of a folder, those that can be a person's scan: no phase images, one file per scan, one echo."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path

from medssl.data.sources.tables import listed
from medssl.data.volumes.image_files import stem, suffix_of
from medssl.errors import ManifestError, count
from medssl.tables.pointers import stands_in

_USUAL = (".nii", ".nii.gz", ".npy")
_ECHO = re.compile(r"_echo-(\d+)(?=_|$)")
_PART = re.compile(r"(?:^|_)part-(phase|real|imag)(?=_|$)", re.IGNORECASE)


class NoImages(ManifestError):
    """A folder holds no image of the kind that was asked for."""


def natural(text: str) -> list[tuple[int, str]]:
    """A sort key in which sub-2 stands before sub-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text) if part]


def is_part(path: Path) -> bool:
    """Whether a name says that an image holds phases, real or imaginary parts (part-phase, part-real, part-imag)."""
    return bool(_PART.search(stem(path)))


def is_unusual(path: Path) -> bool:
    """Whether a file is of another format than NIfTI or NumPy; where a scan is there in both, those are taken."""
    return suffix_of(path) not in _USUAL


def echo_of(path: Path) -> int:
    """The number behind echo-; 0 where there is none."""
    found = _ECHO.search(stem(path))
    return int(found.group(1)) if found else 0


def suffix_in(path: Path) -> str:
    """The last part of a name: "T1w" of sub-01_T1w.nii.gz."""
    return stem(path).rsplit("_", 1)[-1]


def suffix_counts(files: Iterable[Path]) -> str:
    """The suffixes of files with how many there are, most first: "MP2RAGE (4), UNIT1 (2)"."""
    counts = Counter(suffix_in(path) for path in files)
    return listed([f"{name} ({n})" for name, n in counts.most_common()], 8)


def one_format(files: Sequence[Path], notes: list[str]) -> list[Path]:
    """The files in their order, one where a scan lies in several formats in the same folder (NIfTI first)."""
    best: dict[Path, Path] = {}
    for path in files:
        key = path.parent / stem(path)
        if key not in best or (is_unusual(best[key]) and not is_unusual(path)):
            best[key] = path
    kept = set(best.values())
    left = [path.name for path in files if path not in kept]
    if left:
        notes.append(f"{count(len(left), 'file')} left out, being copies of a scan in another format: {listed(left)}")
    return [path for path in files if path in kept]


def one_echo(files: Sequence[Path], echo: int | None) -> tuple[list[Path], dict[Path, int]]:
    """The files in their order, of scans with several echoes one; and the echo taken, of scans with a choice.

    A combined image, of the same name without echo-, is preferred, else the lowest echo. echo: take this one of every
    scan, and nothing of scans that lack it.
    """
    if echo is not None:
        kept = [path for path in files if echo_of(path) == echo]
        return kept, dict.fromkeys(kept, echo)
    groups: dict[Path, list[Path]] = {}
    for path in files:
        groups.setdefault(path.parent / _ECHO.sub("", stem(path)), []).append(path)
    best = {key: min(group, key=echo_of) for key, group in groups.items()}
    kept_ones = set(best.values())
    several = {path: echo_of(path) for key, path in best.items() if len(groups[key]) > 1}
    return [path for path in files if path in kept_ones], several


def say_echoes(taken: Iterable[int], asked: int | None, notes: list[str]) -> None:
    """Say which echo was taken, where there was a choice. taken: the echo of each such scan, 0 for a combined image."""
    if asked is not None:
        return
    for number, n in sorted(Counter(taken).items()):
        if number:
            notes.append(
                f"{count(n, 'scan')} came in several echoes without a combined image; echo {number} was taken "
                "(--echo N chooses)"
            )
        else:
            notes.append(f"of {count(n, 'scan')} with several echoes the combined image was taken (--echo N chooses)")


def without_parts(files: Sequence[Path], notes: list[str]) -> list[Path]:
    """The files without those of phases, real and imaginary parts; said, and named where no magnitude is beside."""
    kept = [path for path in files if not is_part(path)]
    say_parts([path for path in files if is_part(path)], kept, notes)
    return kept


def say_parts(parts: Sequence[Path], kept: Sequence[Path], notes: list[str]) -> None:
    """Say which phase images were left out, and which of them have no magnitude image in their folder."""
    beside = {path.parent / _plain_name(path) for path in kept}
    lone = [path.name for path in parts if path.parent / _plain_name(path) not in beside]
    if len(parts) > len(lone):
        notes.append(
            f"{count(len(parts) - len(lone), 'image')} of phases, real or imaginary parts left out beside a magnitude"
        )
    if lone:
        notes.append(
            f"{count(len(lone), 'image')} of phases, real or imaginary parts left out, without a magnitude image of "
            f"the same name, so these are no scans of anybody: {listed(lone)}"
        )


def _plain_name(path: Path) -> str:
    return re.sub(r"_?(part|echo)-[A-Za-z0-9]+", "", stem(path))


def say_absent(images: Sequence[str], notes: list[str]) -> None:
    """Say how many images only stand in for their content (git-annex, git-lfs, dangling links), and what fetches them.

    They stay in the manifest: a person's scan is theirs whether it has been fetched or not.
    """
    reasons = {image: reason for image in images if (reason := stands_in(image))}
    kinds: dict[str, list[str]] = {}
    for image, reason in reasons.items():
        command = "datalad get" if "datalad get" in reason else "git lfs pull" if "git lfs" in reason else ""
        kinds.setdefault(command, []).append(image)
    for command, found in kinds.items():
        many = f"{len(found)} of {count(len(images), 'image')}"
        if command:
            what = "pointers or links of git-annex" if command == "datalad get" else "pointers of git-lfs"
            glob = shared_glob(found)
            fetch = f"datalad get {glob}" if command == "datalad get" else f'git lfs pull --include "{Path(glob).name}"'
            notes.append(f"{many} are {what} whose content is not here; fetch them with `{fetch}`")
        else:
            notes.append(f"{many} are links that lead nowhere; the first, {found[0]}, {reasons[found[0]]}")


def shared_glob(paths: Sequence[str]) -> str:
    """One glob for paths; their folder where their depths differ.

    >>> shared_glob(["/d/sub-01/a.nii", "/d/sub-02/a.nii"])
    '/d/sub-0*/a.nii'
    """
    split = [Path(path).parts for path in paths]
    if len({len(parts) for parts in split}) > 1:
        return os.path.commonpath(paths)
    out = []
    for column in zip(*split, strict=True):
        different = set(column)
        if len(different) == 1:
            out.append(column[0])
            continue
        head = _shared_start(different)
        tail = _shared_start({name[len(head) :][::-1] for name in different})[::-1]
        out.append(f"{head}*{tail}")
    return str(Path(*out))


def _shared_start(texts: Iterable[str]) -> str:
    """The letters with which all of some texts begin."""
    return "".join(column[0] for column in takewhile(lambda c: len(set(c)) == 1, zip(*texts, strict=False)))
