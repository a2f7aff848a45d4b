from __future__ import annotations

import gzip
import itertools
import os

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medssl.data.volumes.volume import canonical, read_header, read_volume, write_volume
from medssl.errors import UserError, VolumeError

AFFINE = np.array([[2.0, 0, 0, -10], [0, 3, 0, -20], [0, 0, 4, -30], [0, 0, 0, 1]])
TURNS = [(p, f) for p in itertools.permutations(range(3)) for f in itertools.product((1, -1), repeat=3)]


def scan(shape=(5, 6, 7), seed=0, dtype=np.float32):
    return (np.random.default_rng(seed).random(shape) * 200).astype(dtype)


def turned(data, affine, order, flips):
    """The same scan stored with permuted and flipped axes."""
    start = np.array([[0, 1], [1, 1], [2, 1]], float)
    end = np.stack([np.array(order, float), np.array(flips, float)], 1)
    turn = nib.orientations.ornt_transform(start, end)
    return nib.orientations.apply_orientation(data, turn), affine @ nib.orientations.inv_ornt_aff(turn, data.shape)


def rotation(x, y, z):
    (cx, sx), (cy, sy), (cz, sz) = ((np.cos(a), np.sin(a)) for a in (x, y, z))
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return rz @ ry @ rx


def save(path, data, affine, code=1):
    image = nib.Nifti1Image(data, None)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    nib.save(image, path)
    return path


def refused(path, **arguments) -> str:
    with pytest.raises(VolumeError) as caught:
        read_volume(path, **arguments)
    said = str(caught.value)
    assert str(path) in said
    assert "\n" not in said
    return said


@pytest.mark.parametrize(("order", "flips"), TURNS)
def test_all_48_orientations_become_the_same_ras_volume(order, flips):
    data = scan()
    stored, affine = turned(data, AFFINE, order, flips)
    back, back_affine = canonical(stored, affine)
    np.testing.assert_array_equal(back, data)
    np.testing.assert_allclose(back_affine, AFFINE, atol=1e-12)


def test_a_file_in_any_orientation_is_read_as_ras_by_both_readers(tmp_path):
    data = scan()
    for k, (order, flips) in enumerate(TURNS[::5]):
        path = save(tmp_path / f"{k}.nii.gz", *turned(data, AFFINE, order, flips))
        for reader in ("auto", "nibabel", "sitk"):
            volume = read_volume(path, reader)
            assert volume.data.shape == (1, 5, 6, 7)
            assert volume.data.dtype == np.float32
            assert volume.data.flags.c_contiguous
            np.testing.assert_array_equal(volume.data[0], data)
            np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
            np.testing.assert_allclose(volume.spacing, [2, 3, 4], atol=1e-6)
            assert volume.source == str(path)


@pytest.mark.parametrize("angles", [(0.2, -0.1, 0.3), (2.5, 0.4, -1.2), (0, 0, np.pi), (-0.7, 0.7, 0.1)])
@pytest.mark.parametrize("flip", [1, -1])
def test_oblique_scans_are_the_same_by_nibabel_and_simpleitk(tmp_path, angles, flip):
    affine = np.eye(4)
    affine[:3, :3] = rotation(*angles) @ np.diag([1.1 * flip, 2.0, 3.0])
    affine[:3, 3] = [12, -7, 30]
    path = save(tmp_path / "oblique.nii.gz", scan(dtype=np.int16), affine)
    one, two = read_volume(path, "nibabel"), read_volume(path, "sitk")
    np.testing.assert_array_equal(one.data, two.data)
    np.testing.assert_allclose(one.affine, two.affine, atol=2e-4)
    assert (np.diag(one.affine)[:3] > 0).any()
    assert read_header(path).orientation == "".join(nib.aff2axcodes(nib.load(path).affine))


def test_scaling_of_stored_integers_is_honoured_by_both_readers(tmp_path):
    content = bytearray(nib.Nifti1Image(scan(dtype=np.int16), AFFINE).to_bytes())
    content[112:120] = np.array([0.5, -3], "<f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "s.nii").write_bytes(content)
    assert nib.load(tmp_path / "s.nii").dataobj.slope == 0.5
    for reader in ("nibabel", "sitk"):
        np.testing.assert_array_equal(
            read_volume(tmp_path / "s.nii", reader).data[0], scan(dtype=np.int16) * np.float32(0.5) - 3
        )


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii", ".nii.gz", ".mgz", ".img"])
def test_formats_of_both_libraries_give_the_same_volume(tmp_path, suffix):
    data, path = scan(), tmp_path / f"scan{suffix}"
    if suffix in (".mha", ".nrrd"):
        image = sitk.GetImageFromArray(data.transpose(2, 1, 0))
        image.SetSpacing((2.0, 3.0, 4.0))
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        image.SetOrigin((10, 20, -30))
        sitk.WriteImage(image, str(path))
    elif suffix == ".mgz":
        nib.save(nib.MGHImage(data, AFFINE), path)
    else:
        nib.save((nib.Nifti1Pair if suffix == ".img" else nib.Nifti1Image)(data, AFFINE), path)
    volume, header = read_volume(path), read_header(path)
    np.testing.assert_array_equal(volume.data[0], data)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    assert header.shape == (5, 6, 7)
    assert header.orientation == "RAS"
    assert header.dtype in ("float32", ">f4")
    np.testing.assert_allclose(header.spacing, [2, 3, 4], atol=1e-6)


def test_npy_arrays_are_taken_as_ras_with_one_or_several_channels(tmp_path):
    np.save(tmp_path / "a.npy", scan(dtype=np.int16))
    np.save(tmp_path / "b.npy", scan((2, 5, 6, 7)))
    one, two = read_volume(tmp_path / "a.npy"), read_volume(tmp_path / "b.npy")
    assert one.data.shape == (1, 5, 6, 7)
    assert one.data.dtype == np.float32
    assert two.data.shape == (2, 5, 6, 7)
    assert read_header(tmp_path / "b.npy").channels == 2
    assert read_header(tmp_path / "a.npy").ras == ((5, 6, 7), (1.0, 1.0, 1.0))
    np.save(tmp_path / "c.npy", scan((5, 6)))
    assert "(D, H, W)" in refused(tmp_path / "c.npy")
    np.save(tmp_path / "d.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused(tmp_path / "d.npy")


def test_trailing_ones_are_dropped_and_time_series_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(scan((5, 6, 7, 1)), AFFINE), tmp_path / "one.nii.gz")
    for reader in ("nibabel", "sitk"):
        np.testing.assert_array_equal(read_volume(tmp_path / "one.nii.gz", reader).data[0], scan((5, 6, 7, 1))[..., 0])
    assert read_header(tmp_path / "one.nii.gz").ndim == 3
    nib.save(nib.Nifti1Image(scan((5, 6, 7, 2)), AFFINE), tmp_path / "four.nii.gz")
    for reader in ("nibabel", "sitk"):
        said = refused(tmp_path / "four.nii.gz", reader=reader)
        assert "(5, 6, 7, 2)" in said
        assert "one 3D volume" in said
    assert read_header(tmp_path / "four.nii.gz").ndim == 4
    nib.save(nib.Nifti1Image(scan((5, 6)), AFFINE), tmp_path / "two.nii.gz")
    assert "(5, 6)" in refused(tmp_path / "two.nii.gz")


def test_broken_files_are_refused_by_name_by_both_readers(tmp_path):
    good = save(tmp_path / "good.nii.gz", scan((20, 20, 20)), AFFINE).read_bytes()
    plain = save(tmp_path / "good.nii", scan((20, 20, 20)), AFFINE).read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    flipped[-6] ^= 0xFF
    cases = {
        "empty.nii.gz": (b"", "empty"),
        "torn.nii.gz": (good[: len(good) // 2], "truncated"),
        "head.nii.gz": (good[:20], "truncated"),
        "short.nii": (plain[:1000], "truncated"),
        "flipped.nii.gz": (bytes(flipped), "corrupt"),
        "text.nii.gz": (b"this is no scan\n" * 40, "not a NIfTI"),
        "text.nii": (b"short", "not a NIfTI"),
        "text.mha": (b"this is no scan\n", "cannot be read"),
        "text.npy": (b"this is no scan\n", "cannot be read"),
        "text.mgz": (b"this is no scan\n", "corrupt"),
    }
    for name, (content, word) in cases.items():
        (tmp_path / name).write_bytes(content)
        said = refused(tmp_path / name)
        assert word in said, said
    for name in ("empty.nii.gz", "torn.nii.gz", "short.nii", "flipped.nii.gz", "text.nii.gz"):
        refused(tmp_path / name, reader="sitk")
    for name in ("empty.nii.gz", "text.nii.gz", "head.nii.gz", "text.mha", "text.npy"):
        with pytest.raises(VolumeError, match=name):
            read_header(tmp_path / name)


def test_absent_files_folders_unknown_formats_and_readers_are_refused(tmp_path):
    assert "does not exist" in refused(tmp_path / "none.nii.gz")
    (tmp_path / "x.nii.gz").mkdir()
    assert "x.nii.gz is a folder, not a volume file" in refused(tmp_path / "x.nii.gz")
    (tmp_path / "a.dcm").write_bytes(b"x")
    assert ".nii.gz" in refused(tmp_path / "a.dcm")
    with pytest.raises(VolumeError, match="auto, nibabel, sitk"):
        read_volume(tmp_path / "a.nii", reader="itk")


def test_rgb_complex_and_flat_affines_are_refused(tmp_path):
    rgb = np.zeros((3, 3, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(rgb, AFFINE), tmp_path / "rgb.nii")
    assert "RGB" in refused(tmp_path / "rgb.nii")
    nib.save(nib.Nifti1Image(scan().astype(np.complex64), AFFINE), tmp_path / "c.nii")
    assert "complex" in refused(tmp_path / "c.nii")
    flat = nib.Nifti1Image(scan(), None)
    flat.set_sform(np.diag([1.0, 1, 0, 1]), 1)
    nib.save(flat, tmp_path / "flat.nii")
    assert "affine" in refused(tmp_path / "flat.nii")


def test_wrong_suffixes_of_packed_and_plain_nifti_do_not_matter(tmp_path):
    content = save(tmp_path / "good.nii.gz", scan(), AFFINE).read_bytes()
    (tmp_path / "packed.nii").write_bytes(content)
    (tmp_path / "plain.nii.gz").write_bytes(gzip.decompress(content))
    for name in ("packed.nii", "plain.nii.gz"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).data[0], scan())
        assert read_header(tmp_path / name).shape == (5, 6, 7)


def test_nifti_2_is_read(tmp_path):
    nib.save(nib.Nifti2Image(scan(), AFFINE), tmp_path / "n2.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "n2.nii.gz").data[0], scan())
    assert read_header(tmp_path / "n2.nii.gz").sform_code > 0


def test_a_header_tells_where_sform_and_qform_disagree(tmp_path):
    image = nib.Nifti1Image(scan(), None)
    image.set_sform(AFFINE, 2)
    moved = AFFINE.copy()
    moved[0, 3] += 5
    image.set_qform(moved, 1)
    nib.save(image, tmp_path / "conflict.nii.gz")
    header = read_header(tmp_path / "conflict.nii.gz")
    assert (header.sform_code, header.qform_code) == (2, 1)
    assert header.form_conflict == pytest.approx(5, abs=1e-4)
    np.testing.assert_allclose(header.affine, AFFINE, atol=1e-5)
    assert header.ndim == 3
    only = nib.Nifti1Image(scan(), None)
    only.set_sform(AFFINE, 1)
    only.set_qform(None, 0)
    nib.save(only, tmp_path / "only.nii.gz")
    assert read_header(tmp_path / "only.nii.gz").qform is None
    assert read_header(tmp_path / "only.nii.gz").form_conflict == 0


def test_the_header_predicts_shape_and_spacing_in_ras(tmp_path):
    for k, (order, flips) in enumerate(TURNS[::7]):
        path = save(tmp_path / f"{k}.nii.gz", *turned(scan(), AFFINE, order, flips))
        shape, spacing = read_header(path).ras
        assert shape == (5, 6, 7)
        np.testing.assert_allclose(spacing, [2, 3, 4], atol=1e-6)


def test_what_is_written_is_read_back_with_the_same_bytes_every_time(tmp_path):
    affine = AFFINE.copy()
    affine[:3, :3] = rotation(0.1, 0.2, 0.3) @ np.diag([2.0, 3, 4])
    for name in ("a.nii.gz", "b.nii.gz", "a.nii"):
        write_volume(tmp_path / name, scan(), affine)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.data[0], scan())
    np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
    assert read_header(tmp_path / "a.nii").form_conflict < 1e-3
    assert sorted(os.listdir(tmp_path)) == ["a.nii", "a.nii.gz", "b.nii.gz"]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int64, np.float64])
def test_common_types_can_be_written(tmp_path, dtype):
    data = scan().astype(np.uint8).astype(dtype)
    write_volume(tmp_path / "t.nii.gz", data, AFFINE)
    np.testing.assert_array_equal(read_volume(tmp_path / "t.nii.gz").data[0], data.astype(np.float32))


def test_channels_survive_writing_for_both_readers(tmp_path):
    data = scan((3, 5, 6, 7))
    write_volume(tmp_path / "c.nii.gz", data, AFFINE)
    write_volume(tmp_path / "one.nii.gz", data[:1], AFFINE)
    for reader in ("nibabel", "sitk"):
        np.testing.assert_array_equal(read_volume(tmp_path / "c.nii.gz", reader).data, data)
        np.testing.assert_array_equal(read_volume(tmp_path / "one.nii.gz", reader).data, data[:1])
    assert read_header(tmp_path / "c.nii.gz").channels == 3


def test_writing_refuses_other_suffixes_and_shapes_and_leaves_nothing_when_it_fails(tmp_path, monkeypatch):
    with pytest.raises(VolumeError, match=r"\.nii"):
        write_volume(tmp_path / "a.mha", scan(), AFFINE)
    with pytest.raises(VolumeError, match="shape"):
        write_volume(tmp_path / "a.nii", scan((5, 6)), AFFINE)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(UserError, match="no space left"):
        write_volume(tmp_path / "a.nii.gz", scan(), AFFINE)
    assert os.listdir(tmp_path) == []
