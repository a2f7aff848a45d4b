"""The scans of a BIDS folder: one per person and session, of what is one; and the tables of sessions."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from medssl.data.sources.found import (
    NoImages,
    echo_of,
    is_part,
    is_unusual,
    natural,
    one_echo,
    one_format,
    say_echoes,
    say_parts,
    suffix_counts,
    suffix_in,
)
from medssl.data.sources.ignore import Ignore
from medssl.data.sources.merge import merge_persons
from medssl.data.sources.sessions import Reading, merge_sessions
from medssl.data.sources.tables import listed
from medssl.data.sources.visits import Named
from medssl.data.volumes.image_files import find_images, is_image_name, say_left_out, stem
from medssl.documents.json_file import sound_json
from medssl.errors import ManifestError, count
from medssl.tables.people import bare, entity

SUFFIX = "T1w"
"""The suffix where none is asked for; images of a flat or plain folder need not carry it."""
INSTEAD = "UNIT1"
"""The suffix taken where nobody has a T1w image: the combined image of an MP2RAGE."""
_KINDS = ("anat", "func", "dwi", "fmap", "perf", "pet", "meg", "eeg")


def places_of(root: Path, derivative: str | None = None) -> list[Path]:
    """The folders that hold sub-* folders: the root, its rawdata, or derivatives."""
    derived = root / "derivatives"
    if derivative and derived.is_dir():
        if (derived / derivative).is_dir():
            return [derived / derivative]
        return [derived, *sorted(folder for folder in derived.iterdir() if folder.is_dir() and folder.name[0] != ".")]
    if not derivative and (root / "rawdata").is_dir() and not subjects_of(root):
        return [root / "rawdata"]
    return [root]


def subjects_of(place: Path) -> list[Path]:
    """The folders sub-* of a place in natural order, also SUB-*; those that may not be opened are left out."""
    if not place.is_dir():
        return []
    return [path for path in _keyed(place, "sub") if not is_image_name(path.name) and _opens(path)]


def _opens(folder: Path) -> bool:
    """Whether a folder may be listed."""
    try:
        os.scandir(folder).close()
    except PermissionError:
        return False
    return True


def _keyed(folder: Path, key: str) -> list[Path]:
    """The folders KEY-* in a folder, in any capitals of the key, in natural order."""
    found = [path for path in folder.iterdir() if path.name.lower().startswith(f"{key}-") and path.is_dir()]
    return sorted(found, key=lambda path: natural(path.name))


def _label(text: str, key: str) -> str:
    """The last label of this key in a path with its key in small letters, "" where there is none."""
    return entity(re.sub(rf"(?<![A-Za-z0-9]){key}-", f"{key}-", text, flags=re.IGNORECASE), key)


def looks_bids(root: Path, suffix: str) -> bool:
    """Whether there are sub-* folders with such an image where BIDS has it, or with several kinds of images."""
    places = places_of(root)
    if any(True for place in places for _ in _files(place, suffix, "", _Left())):
        return True
    for subject in (subject for place in places for subject in subjects_of(place)):
        homes = [subject, *_keyed(subject, "ses")]
        if any((home / kind).is_dir() and find_images(home / kind) for home in homes for kind in _KINDS):
            return True
        names = [path for home in homes for path in _inside(home) if path.name.startswith(f"{subject.name}_")]
        kinds = {(_label(path.name, "ses"), suffix_in(path)) for path in names}
        if len(kinds) > len({session for session, _ in kinds}) or any("_inv-" in path.name for path in names):
            return True
    return False


@dataclass
class _Left:
    """What was met on the way and is nobody's scan."""

    ignored: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    parts: list[Path] = field(default_factory=list)
    rules: Sequence[Ignore] = ()

    def say(self, kept: Sequence[Path], notes: list[str]) -> None:
        for paths, reason in (
            (self.ignored, "named by .bidsignore"),
            (self.folders, "named like an image, but a folder"),
        ):
            if paths:
                notes.append(f"{count(len(paths), 'image')} left out, {reason}: {listed([p.name for p in paths])}")
        if self.parts:
            say_parts(self.parts, kept, notes)


def _inside(folder: Path) -> dict[Path, bool]:
    """Everything in a folder that is named like an image, in natural order, and whether it is a folder itself."""
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: entry.is_dir() for entry in entries if is_image_name(entry.name)}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError as error:
        say_left_out(error)
        return {}
    return {folder / name: found[name] for name in sorted(found, key=natural)}


def _files(place: Path, suffix: str, part: str, left: _Left) -> Iterator[Path]:
    """Images <place>/sub-*/[ses-*/][anat/]*<part>*_<suffix>.<ending>, in natural order."""
    opened = subjects_of(place)
    for folder in _keyed(place, "sub"):
        if folder not in opened and not is_image_name(folder.name):
            say_left_out(PermissionError(errno.EACCES, "Permission denied", str(folder)))
    for subject in opened:
        homes = [subject, *_keyed(subject, "ses")]
        for folder in (folder for home in homes for folder in (home, home / "anat")):
            for path, is_folder in _inside(folder).items():
                if not stem(path).endswith(f"_{suffix}") or part not in f"{place.name}/{path.name}":
                    continue
                if is_folder:
                    left.folders.append(path)
                elif any(rules.names(path) for rules in left.rules):
                    left.ignored.append(path)
                elif is_part(path) and not is_part(Path(part)):
                    left.parts.append(path)
                else:
                    yield path


def scan_bids(
    root: Path,
    suffix: str,
    derivative: str | None,
    persons: pd.DataFrame | None,
    notes: list[str],
    echo: int | None = None,
    sessions: Named = (),
    reading: Reading | None = None,
) -> pd.DataFrame:
    """One row per subject and session of a BIDS folder, merged with its tables."""
    places = places_of(root, derivative)
    inside = bool(derivative) and places == [root / "derivatives" / str(derivative)]
    part = derivative if derivative and not inside else ""
    left = _Left(rules=[Ignore.of(folder) for folder in dict.fromkeys([root, *places])])
    found = [(path, place) for place in places for path in _files(place, suffix, part, left)]
    if not found and suffix == SUFFIX:
        found = [(path, place) for place in places for path in _files(place, INSTEAD, part, left)]
        if found:
            notes.append(f"there is no {SUFFIX} image, so {INSTEAD} was taken (--suffix chooses)")
            suffix = INSTEAD
    if not found:
        raise _nothing(places, suffix, part, left)
    place_of = _of_part(dict(found), part, notes)
    _say_capitals(place_of, notes)
    files, echoes = one_echo(one_format(list(place_of), notes), echo)
    if not files:
        raise NoImages(f"{root}: no image *_{suffix} has echo-{echo} in its name; correct --echo")
    chosen = _one_each(files, place_of, notes)
    say_echoes([echoes[path] for path in chosen.values() if path in echoes], echo, notes)
    left.say(list(place_of), notes)
    _say_without(places, suffix, place_of, [subject for subject, _ in chosen], notes)
    images = pd.DataFrame(
        [(subject, session, str(path)) for (subject, session), path in sorted(chosen.items(), key=_order)],
        columns=["participant_id", "session", "image"],
        dtype=object,
    )
    out = merge_persons(images, persons, notes, sessions)
    by_visit = persons is not None and "session" in persons
    return merge_sessions(out, [root, *places], notes, sessions, replace(reading or Reading(), by_visit=by_visit))


def _of_part(place_of: dict[Path, Path], part: str, notes: list[str]) -> dict[Path, Path]:
    """The images that carry the part of a name as a whole (desc-brain, not desc-brainmask), where any does; said."""
    whole = re.compile(rf"(?:^|[_/]){re.escape(part)}(?=[_/.]|$)")
    fitting = {path: place for path, place in place_of.items() if whole.search(f"{place.name}/{stem(path)}")}
    others = [path.name for path in place_of if path not in fitting]
    if not part or not others:
        return place_of
    if not fitting:
        notes.append(f"no image has {part} as a whole in its name; those that hold it were taken: {listed(others)}")
        return place_of
    notes.append(f"{count(len(others), 'image')} left out, which are not {part} but hold it: {listed(others)}")
    return fitting


def _say_capitals(place_of: Mapping[Path, Path], notes: list[str]) -> None:
    """Say which folders of people and sessions were read though their keys are in capitals."""
    inner = [path.relative_to(place).parts[:-1] for path, place in place_of.items()]
    keys = [part for parts in inner for part in parts if part[:4].lower() in ("sub-", "ses-")]
    odd = [part for part in keys if part[:4] not in ("sub-", "ses-")]
    if odd:
        folders = sorted(set(odd))
        notes.append(f"folders whose keys are in capitals were read as sub- and ses-: {listed(folders)}")


def _nothing(places: Sequence[Path], suffix: str, part: str, left: _Left) -> ManifestError:
    """What to say where no image was found: which there are, and what was left out."""
    what = f"sub-*/[ses-*/]anat/*{part}*_{suffix}.nii[.gz]".replace("**", "*")
    others = [path for place in places[:3] for subject in subjects_of(place) for path in find_images(subject)]
    there = f", but there is {suffix_counts(others)}" if others else ""
    for paths, reason in (
        (left.ignored, "named by .bidsignore"),
        (left.parts, "of phases or real or imaginary parts"),
        (left.folders, "a folder that is named like one"),
    ):
        if paths:
            there += f" ({len(paths)} left out, {reason}: {paths[0].name})"
    return NoImages(
        f"{', '.join(str(place) for place in places[:3])}: no image {what}{there}; set --suffix or --derivative, "
        "or use --layout flat or plain"
    )


def subject_of(path: Path, place: Path) -> str:
    """The participant of an image below a place: by its name, else by its folder; the longer where both begin alike.

    sub-CC-01/anat/sub-CC-01_T1w.nii.gz is of sub-CC-01, though labels of BIDS hold letters and numbers only.
    """
    named, folder = _label(path.name, "sub"), f"sub-{bare(path.relative_to(place).parts[0], 'sub')}"
    return folder if not named or stem(path).lower().startswith(f"{folder}_".lower()) else named


def _one_each(files: Sequence[Path], place_of: dict[Path, Path], notes: list[str]) -> dict[tuple[str, str], Path]:
    """The image of every subject and session: the combined echo, the first run, NIfTI; what else there is, is said."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for path in files:
        inner = path.relative_to(place_of[path]).as_posix()
        session = _label(path.name, "ses") or _label(inner, "ses")
        groups.setdefault((subject_of(path, place_of[path]), session), []).append(path)
    chosen = {key: min(group, key=_rank) for key, group in groups.items()}
    further = [path for key, group in groups.items() for path in group if path != chosen[key]]
    if further:
        order = {path: k for k, path in enumerate(files)}
        names = [path.name for path in sorted(further, key=order.__getitem__)]
        notes.append(
            f"{len(names)} further runs or variants were left out (first run taken; --derivative chooses by "
            f"a part of the name): {listed(names)}"
        )
    return chosen


def _rank(path: Path) -> tuple[int, int, int, bool]:
    """Runs before echoes, so that the first run is taken whatever echoes it has; no run counts as the first one."""
    found = re.search(r"_run-(\d+)", path.name)
    run = int(found.group(1)) if found else 0
    return (max(run, 1), echo_of(path), run, is_unusual(path))


def _order(item: tuple[tuple[str, str], Path]) -> tuple[list[tuple[int, str]], ...]:
    return tuple(natural(text) for text in item[0])


def _say_without(
    places: Sequence[Path], suffix: str, found: Mapping[Path, Path], chosen: Sequence[str], notes: list[str]
) -> None:
    """Say which sub-* folders gave no scan."""
    known = {*chosen, *(path.relative_to(place).parts[0] for path, place in found.items())}
    without = [subject.name for place in places for subject in subjects_of(place) if subject.name not in known]
    if without:
        notes.append(f"{count(len(without), 'folder')} of a participant without a {suffix} image: {listed(without)}")


def dataset_name(root: Path) -> str:
    """Name in dataset_description.json; "" where there is none."""
    described = sound_json(root / "dataset_description.json")
    return str(described.get("Name") or "").strip() if isinstance(described, dict) else ""
