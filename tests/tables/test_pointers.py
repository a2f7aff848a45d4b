from __future__ import annotations

from pathlib import Path

import pytest

from medssl.tables.pointers import stands_in

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
KEY = "MD5E-s120--0123456789abcdef.nii.gz"
OBJECT = f".git/annex/objects/Wq/7z/{KEY}/{KEY}"


def test_content_holds_itself(tmp_path: Path):
    for name, content in (
        ("a.nii", b"\0" * 400),
        ("b.tsv", b"participant_id\tage\n"),
        ("c", b""),
        ("d", b"annex/objects"),
    ):
        (tmp_path / name).write_bytes(content)
        assert stands_in(tmp_path / name) == ""
    assert stands_in(str(tmp_path / "a.nii")) == ""
    assert stands_in(tmp_path) == ""
    assert stands_in(tmp_path / "nowhere.nii") == ""


def test_a_link_to_content_that_is_here_holds_it(tmp_path: Path):
    target = tmp_path / OBJECT
    target.parent.mkdir(parents=True)
    target.write_bytes(b"voxels")
    (tmp_path / "a.nii.gz").symlink_to(OBJECT)
    assert stands_in(tmp_path / "a.nii.gz") == ""


@pytest.mark.parametrize("target", [OBJECT, f"../../{OBJECT}", OBJECT.replace("/", "\\")])
def test_a_link_into_an_annex_without_content_names_the_command(tmp_path: Path, target: str):
    path = tmp_path / "sub-01_T1w.nii.gz"
    path.symlink_to(target)
    assert stands_in(path) == f"is a git-annex link whose content is not here; fetch it with `datalad get {path}`"


def test_another_dangling_link_names_its_target(tmp_path: Path):
    (tmp_path / "a.nii").symlink_to("/mnt/gone/a.nii")
    told = stands_in(tmp_path / "a.nii")
    assert told == "is a link to /mnt/gone/a.nii, which does not exist; correct the link or fetch what it points to"
    (tmp_path / "b.nii").symlink_to("a.nii")  # a link to a dangling link
    assert stands_in(tmp_path / "b.nii").startswith("is a link to a.nii")
    (tmp_path / "loop").symlink_to("loop")
    assert stands_in(tmp_path / "loop").startswith("is a link to loop")


def test_a_pointer_of_git_lfs_names_the_command(tmp_path: Path):
    (tmp_path / "a.nii.gz").write_bytes(LFS)
    assert stands_in(tmp_path / "a.nii.gz") == (
        "is a git-lfs pointer whose content is not here; fetch it with `git lfs pull --include a.nii.gz`"
    )
    (tmp_path / "link.nii.gz").symlink_to("a.nii.gz")
    assert "is a git-lfs pointer" in stands_in(tmp_path / "link.nii.gz")


@pytest.mark.parametrize(
    "content", [f"/annex/objects/{KEY}\n", f"/annex/objects/{KEY}", f".git/annex/objects/{KEY}\nmore\n"]
)
def test_an_unlocked_pointer_of_git_annex_names_the_command(tmp_path: Path, content: str):
    path = tmp_path / "participants.tsv"
    path.write_text(content)
    assert (
        stands_in(path)
        == f"is an unlocked git-annex pointer whose content is not here; fetch it with `datalad get {path}`"
    )


def test_a_large_file_is_content_whatever_it_begins_with(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(LFS + b" " * (32 << 10))
    assert stands_in(path) == ""
    path.write_bytes(LFS + b" " * ((32 << 10) - len(LFS)))
    assert stands_in(path) != ""


def test_a_file_that_may_not_be_read_is_left_to_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.nii"
    path.write_bytes(LFS)
    assert stands_in(path) != ""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert stands_in(path) == ""
