from __future__ import annotations

import pytest

from medssl.report.paths import absolute_paths, names_only, with_home


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("read /home/anna/study/manifest.csv", "read manifest.csv"),
        ("/home/anna", "~"),
        ("/Users/Anna/x.csv:3 is wrong", "x.csv:3 is wrong"),
        ("see ~/study/m.csv, please", "see m.csv, please"),
        ("in '/data/lab/scans/'", "in 'scans'"),
        ("C:\\Users\\Anna B\\study\\m.csv", "m.csv"),
        ("D:\\data\\m.csv", "m.csv"),
        ("/root/m.csv and (/mnt/x/m.csv)", "m.csv and (m.csv)"),
    ],
)
def test_an_absolute_path_is_shown_by_its_name(text: str, shown: str):
    assert names_only(text) == shown


@pytest.mark.parametrize(
    "text",
    ["scans/a.nii.gz", "km/h", "1/√D", "n/a", "F/M", "a / b", "https://example.org/x/y", "<pre></pre>", "../up/m.csv",
     "synthetic/sub-0001", "site A/B/C"],
)  # fmt: skip
def test_what_is_no_absolute_path_stays(text: str):
    assert names_only(text) == text


def test_known_paths_may_hold_blanks():
    facts = {"training": {"manifests": ["/home/anna maria/my study/manifest.csv"]}, "n": 3, "method": "mae"}
    known = absolute_paths(facts)
    assert names_only("row 3 of /home/anna maria/my study/manifest.csv: age", known) == "row 3 of manifest.csv: age"
    assert names_only("/home/anna maria/my study/a b.nii.gz is damaged", known) == "a b.nii.gz is damaged"
    assert absolute_paths({"x": "/a"}, {"y": "relative/m.csv"}) == ()


def test_home_folders_lose_the_name_of_their_user():
    assert with_home("manifest: /home/anna/m.csv\ncache: /Users/b/c") == "manifest: ~/m.csv\ncache: ~/c"
    assert with_home("/data/home/x") == "/data/home/x"
    assert with_home("/rooted/x and /root/x") == "/rooted/x and ~/x"
