"""What is noticed of a damaged cache entry, and what is then done."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medssl.data.loading.cache import BuildCounts, VolumeCache
from medssl.data.loading.cache_entries import MappedEntries
from medssl.data.loading.dataset import ScanDataset, plain_batches
from medssl.data.loading.entry_file import HEAD, fault, header_fault, layout, memory_map, write_entry
from medssl.data.manifest.copies import mark
from medssl.data.volumes import checksum
from medssl.data.volumes.checksum import crc32, file_crc32
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.volume import read_volume, write_volume
from medssl.errors import ScanWarning, UserError

PREP = Preprocessing()


@pytest.fixture
def scans(tmp_path: Path) -> list[tuple[Path, ...]]:
    for k in range(3):
        data = np.random.default_rng(k).normal(size=(6, 7, 8)).astype(np.float32)
        write_volume(tmp_path / "scans" / f"{k}.nii.gz", data, np.eye(4))
    return [(tmp_path / "scans" / f"{k}.nii.gz",) for k in range(3)]


@pytest.fixture(params=["float32", "float16"])
def cache(tmp_path: Path, request: pytest.FixtureRequest) -> VolumeCache:
    return VolumeCache(tmp_path / "cache", dtype=request.param)


@pytest.mark.parametrize("library", [True, False])
def test_checksums_are_those_of_zlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: bool) -> None:
    if not library:
        monkeypatch.setattr(checksum, "_fast", None)
    x = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    assert crc32(x) == crc32(x.tobytes()) == zlib.crc32(x.tobytes())
    assert crc32(x, 7) == zlib.crc32(x.tobytes(), 7)
    assert crc32(x[:, ::2]) == zlib.crc32(x[:, ::2].tobytes())
    monkeypatch.setattr(checksum, "_PIECE", 100)
    (tmp_path / "x").write_bytes(x.tobytes())
    assert file_crc32(tmp_path / "x", 7) == zlib.crc32(x.tobytes(), 7)


def test_an_entry_says_what_it_holds_and_what_it_was_made_from_and_numpy_reads_it(cache, scans) -> None:
    made = cache.prepare(scans, PREP, progress=False)
    entry = cache.path(made.keys[0])
    found = layout(entry, cache.dtype)
    assert found.shape == (1, 6, 7, 8)
    assert found.offset == HEAD
    assert found.source == made.sources[0] == file_crc32(scans[0][0])
    assert made.sources == [file_crc32(group[0]) for group in scans]
    values = np.load(entry, allow_pickle=False)
    assert found.values == crc32(values)
    np.testing.assert_array_equal(values, memory_map(entry, cache.dtype))


def flipped(place: int) -> Callable[[bytearray], bytes]:
    def flip(content: bytearray) -> bytes:
        content[place] ^= 1
        return bytes(content)

    return flip


DAMAGE: dict[str, tuple[Callable[[bytearray], bytes], str]] = {
    "first number": (flipped(HEAD), "changed bytes"),
    "last number": (flipped(-1), "changed bytes"),
    "zeros after a power cut": (lambda x: bytes(x[:HEAD]) + bytes(len(x) - HEAD), "changed bytes"),
    "zeros altogether": (lambda x: bytes(len(x)), "a damaged header"),
    "shape": (lambda x: bytes(x).replace(b"(1, 6, 7, 8)", b"(1, 7, 6, 8)"), "a damaged header"),
    "checksum": (lambda x: bytes(x).replace(b"#", b"#0", 1)[:HEAD] + bytes(x[HEAD:]), "a damaged header"),
    "cut": (lambda x: bytes(x[:-4]), "a wrong length"),
    "more": (lambda x: bytes(x) + b"\0" * 4, "a wrong length"),
    "only a head": (lambda x: bytes(x[:40]), "a damaged header"),
    "empty": (lambda x: b"", "a damaged header"),
    "an open bracket": (lambda x: bytes(x[:20]) + b"(((" + bytes(x[23:]), "a damaged header"),
    "of an older medssl": (
        lambda x: bytes(x[: x.index(b"#")]).ljust(HEAD - 1) + b"\n" + bytes(x[HEAD:]), "no checksum"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_no_damaged_number_is_ever_handed_out_and_the_entry_is_mended(cache, scans, what: str) -> None:
    made = cache.prepare(scans, PREP, progress=False)
    entry = cache.path(made.keys[0])
    good = entry.read_bytes()
    change, said = DAMAGE[what]
    entry.write_bytes(change(bytearray(good)))
    assert said in fault(entry, cache.dtype)
    assert memory_map(entry, cache.dtype) is None
    assert MappedEntries(cache.path, cache.dtype).tensor(made.keys[0]) is None

    sentence = rf"1 cache entry with {said}.* is built again from .*0\.nii\.gz \(.*{made.keys[0]}"
    data = ScanDataset(scans, cache, PREP, {"age": torch.zeros(3)}, keys=made.keys)
    with pytest.warns(ScanWarning, match=sentence) as told, plain_batches(data, [np.arange(3)]) as batches:
        x = next(batches)["views"][0][0].numpy()
    assert len(told) == 1
    np.testing.assert_allclose(x, PREP.apply(read_volume(scans[0][0])), atol=3e-3)
    assert entry.read_bytes() == good

    entry.write_bytes(change(bytearray(good)))
    with pytest.warns(ScanWarning, match=sentence):
        cache.load(scans[0], PREP)
    assert entry.read_bytes() == good

    entry.write_bytes(change(bytearray(good)))
    assert list(cache.drop_damaged(made.keys, workers=1, progress=False)) == [entry]
    assert cache.build(scans, PREP, progress=False) == BuildCounts(1, 2)
    assert entry.read_bytes() == good


@pytest.mark.parametrize("what", [name for name, (_, said) in DAMAGE.items() if said != "changed bytes"])
def test_preparing_notices_headers_and_lengths_without_reading_numbers(cache, scans, what: str) -> None:
    made = cache.prepare(scans, PREP, progress=False)
    entry = cache.path(made.keys[1])
    entry.write_bytes(DAMAGE[what][0](bytearray(entry.read_bytes())))
    assert header_fault(entry, cache.dtype)
    with pytest.warns(ScanWarning, match=r"1 cache entry .* is built again from .*1\.nii\.gz"):
        assert cache.prepare(scans, PREP, progress=False).counts == BuildCounts(1, 2)


def test_entries_of_an_older_medssl_are_said_in_one_line(cache, scans) -> None:
    made = cache.prepare(scans, PREP, progress=False)
    for key in made.keys:
        entry = cache.path(key)
        entry.write_bytes(DAMAGE["of an older medssl"][0](bytearray(entry.read_bytes())))
    with pytest.warns(
        ScanWarning, match=r"^3 cache entries with no checksum .* built again, the first from .*0\.nii"
    ) as told:
        cache.prepare(scans, PREP, progress=False)
    assert len(told) == 1


def test_entries_under_each_others_names_are_noticed(cache, scans) -> None:
    made = cache.prepare(scans, PREP, progress=False)
    first, second = (cache.path(key) for key in made.keys[:2])
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    with pytest.warns(ScanWarning, match="2 cache entries with a damaged header"):
        cache.prepare(scans, PREP, progress=False)
    assert first.read_bytes() == one
    assert second.read_bytes() == other


def test_an_entry_that_is_damaged_again_at_once_blames_the_disk(cache, scans, monkeypatch: pytest.MonkeyPatch) -> None:
    from medssl.data.loading import cache as module

    write = module.write_entry

    def badly(file, x, key, source) -> None:
        write(file, x, key, source)
        file.seek(HEAD + 3)
        file.write(b"\xaa\x55\xaa")

    monkeypatch.setattr(module, "write_entry", badly)
    with pytest.raises(UserError, match=r"has changed bytes .* right after it was written; check the disk"):
        cache.load(scans[0], PREP)
    data = ScanDataset(scans, cache, PREP, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScanWarning)
        with pytest.raises(UserError, match=r"check the disk"):
            data.volume(1)


def test_an_entry_is_checked_once_while_its_map_is_open(cache, scans, monkeypatch: pytest.MonkeyPatch) -> None:
    from medssl.data.loading import cache_entries as module

    made = cache.prepare(scans, PREP, progress=False)
    seen, check = [], module.is_intact
    monkeypatch.setattr(module, "is_intact", lambda x, found: seen.append(found) or check(x, found))
    mapped = MappedEntries(cache.path, cache.dtype)
    for _ in range(3):
        mapped.tensor(made.keys[0])
    assert len(seen) == 1


def test_a_header_of_the_longest_shape_fits(tmp_path: Path) -> None:
    from medssl.data.loading.entry_file import write_entry

    x = np.zeros((9999, 1, 1, 1), np.float32)
    with (tmp_path / "k.npy").open("wb") as file:
        write_entry(file, x, "k", 2**32 - 1)
    head = (tmp_path / "k.npy").read_bytes()[:HEAD]
    assert struct.unpack("<H", head[8:10]) == (HEAD - 10,)
    wide = head[10 : head.index(b"#")].replace(b"(9999, 1, 1, 1)", b"(9999, 9999, 9999, 9999)")
    assert 10 + len(wide) + len("#00000000 00000000  00000000\n") + 4 * 12 + 3 <= HEAD
    assert layout(tmp_path / "k.npy").shape == x.shape


def test_the_mark_of_a_scan_stands_in_its_header(tmp_path: Path):
    brain = np.random.default_rng(0).normal(size=(1, 12, 14, 12)).astype(np.float32)
    flat = np.ones((1, 4, 4, 4), np.float32)
    for name, x in {"brain": brain, "flat": flat}.items():
        with (tmp_path / f"{name}.npy").open("wb") as file:
            write_entry(file, x, name, 7)
    found, none = (layout(tmp_path / f"{name}.npy") for name in ("brain", "flat"))
    assert found is not None
    assert none is not None
    assert (found.mark, none.mark) == (mark(brain), "")
    assert found.mark.count("-") == 3
    content = (tmp_path / "brain.npy").read_bytes()
    (tmp_path / "brain.npy").write_bytes(content.replace(found.mark.encode(), mark(brain[:, ::-1]).encode()))
    assert header_fault(tmp_path / "brain.npy") == "a damaged header"
