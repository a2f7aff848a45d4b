"""What the training scans of a run hold, so that a run that is continued goes on with the same scans.

A checksum of every scan's files decides. They are read again only where inode or time of change (ctime, which no
program can set) of a file is another than when they were read last: after a copy or a restore, and after any change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medssl.data.loading.pool import in_order
from medssl.data.volumes.reference import Stamps, state_of
from medssl.data.volumes.stored_arrays import content_crc
from medssl.errors import UserError, VolumeError, count

Images = tuple[Path | str, ...]
_HEAD = "scan,crc32,state"
_LISTED = 3


@dataclass(frozen=True)
class Contents:
    """Checksum of the files of every training scan, in their order, and the state of the files when it was taken."""

    checksums: tuple[str, ...]
    states: tuple[str, ...]

    @classmethod
    def of(cls, scans: Sequence[Images], sources: Sequence[int], stamps: Stamps) -> Contents:
        """sources: CRC-32 of the files that the cache entries of the scans were made from."""
        return cls(tuple(f"{source:08x}" for source in sources), tuple(_state(group, stamps) for group in scans))

    @classmethod
    def parse(cls, text: str, path: Path) -> Contents:
        """Inverse of ``to_csv``. Errors: UserError naming the file and the line."""
        lines = text.splitlines()
        cells = [line.split(",") for line in lines[1:]]
        for number, row in enumerate(cells):
            if len(row) != 3 or row[0] != str(number) or len(row[1]) != 8:
                raise UserError(f"{path} line {number + 2} is not 'scan,crc32,state'; restore it, or start a new run")
        if not lines or lines[0] != _HEAD:
            raise UserError(f"{path} does not begin with '{_HEAD}'; restore it, or start a new run")
        return cls(tuple(row[1] for row in cells), tuple(row[2] for row in cells))

    def to_csv(self) -> str:
        """One line per scan."""
        rows = zip(self.checksums, self.states, strict=True)
        return "\n".join([_HEAD, *(f"{k},{checksum},{state}" for k, (checksum, state) in enumerate(rows))]) + "\n"

    @property
    def digest(self) -> str:
        """sha256 hex over all checksums; the same wherever the scans lie."""
        return hashlib.sha256("\n".join(self.checksums).encode()).hexdigest()

    def differing(self, sources: Sequence[int]) -> list[int]:
        """Places of scans whose cache entry was made from other bytes than these."""
        return [k for k, source in enumerate(sources) if f"{source:08x}" != self.checksums[k]]

    def still(
        self, scans: Sequence[Images], names: Sequence[str], stamps: Stamps, run: Path, progress: bool = True
    ) -> Contents:
        """The same contents with the state of the files now.

        Errors: UserError naming the scans whose files hold something else than when ``run`` was started.
        """
        if len(scans) != len(self.checksums):
            raise UserError(
                f"{run} was started on {count(len(self.checksums), 'training scan')}, but there are {len(scans)} now; "
                "restore the manifest, or start a new run"
            )
        now = tuple(_state(group, stamps) for group in scans)
        touched = [k for k, state in enumerate(now) if state != self.states[k]]
        read = in_order(_checksum, [scans[k] for k in touched], None, progress, "comparing scans")
        other = [k for k, checksum in zip(touched, read, strict=True) if checksum != self.checksums[k]]
        if other:
            listed = "; ".join(f"{names[k]}: {scans[k][0]}" for k in other[:_LISTED])
            more = f"; and {len(other) - _LISTED} more" if len(other) > _LISTED else ""
            raise UserError(
                f"{count(len(other), 'training scan holds', 'training scans hold')} something else than when {run} was "
                f"started ({listed}{more}); restore {'it' if len(other) == 1 else 'them'}, or start a new run"
            )
        return replace(self, states=now)


@dataclass(frozen=True)
class Began:
    """A run that is continued: its folder, the hash of its manifests, what its scans held.

    contents: None of a table, and of an ``old`` run, which did not say.
    """

    run: Path
    manifest: str
    contents: Contents | None
    old: bool = False

    def same_manifest(self, digest: str, paths: Sequence[Path] = ()) -> None:
        """UserError where the manifests (``paths``) changed, before anything is read of the scans."""
        if self.manifest != digest:
            raise changed("manifest", self.run, self.manifest, digest, paths)


def changed(parent: str, run: Path, before: str, now: str, paths: Sequence[Path] = ()) -> UserError:
    """The refusal to continue a run after a parent of it changed; paths: where that parent is."""
    where = f": {', '.join(map(str, paths))}" if paths else ""
    return UserError(
        f"the {parent} changed since {run} was started (hash {before[:12]} before, {now[:12]} now){where}; restore it, "
        "or start a new run"
    )


def _state(group: Images, stamps: Stamps) -> str:
    return " ".join(state_of(image, stamps) for image in group)


def _checksum(group: Images) -> str:
    """Of the files of a scan, as its cache entry carries it; what is wrong where they cannot be read."""
    source = 0
    try:
        for image in group:
            source = content_crc(Path(image), source)
    except VolumeError as error:
        return str(error)
    return f"{source:08x}"
