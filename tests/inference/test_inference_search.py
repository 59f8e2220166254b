"""The search finds every FITS file once, in a fixed order, and always ends."""

import os
from pathlib import Path

import pytest

from pipeline.core.errors import ScoringError
from pipeline.inference.search import find_images, printable


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def names(*inputs: Path | str) -> list[str]:
    return [item.name for item in find_images(inputs).files]


def test_folders_are_searched_deeply_by_suffix_and_the_rest_is_counted(tmp_path):
    fits_names = ["B.FITS", "a/b/c/x.fits.gz", "a/y.fit", "c.fits.fz", "z.fts"]
    make(tmp_path, *fits_names, "notes.txt", "a/array.h5")
    search = find_images([tmp_path])
    assert [item.name for item in search.files] == sorted(fits_names)
    assert search.n_skipped == 2
    assert search.root == str(tmp_path)


def test_order_and_doubling_of_inputs_change_nothing(tmp_path):
    make(tmp_path, "a/1.fits", "b/2.fits", "b/1.fits")
    a, b = tmp_path / "a", tmp_path / "b"
    expected = ["a/1.fits", "b/1.fits", "b/2.fits"]
    assert names(a, b) == names(b, a, b, b / "1.fits") == names(tmp_path) == expected


def test_names_do_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    make(tmp_path, "sky/1.fits", "elsewhere/x")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert names("../sky") == names(tmp_path / "sky") == ["1.fits"]
    assert find_images(["../sky"]).files[0].path.exists()


def test_files_globs_and_lists(tmp_path, monkeypatch):
    make(tmp_path, "1.fits", "2.fits", "odd.name", "[x].fits")
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("# my lenses\n2.fits\nodd.name\n")
    assert names("*.fits") == ["1.fits", "2.fits", "[x].fits"]
    assert names("[x].fits") == ["[x].fits"]
    assert names("@list.txt") == ["2.fits", "odd.name"]


@pytest.mark.parametrize("missing", ["no-such-folder", "no-such-*.fits", "@no-such-list", "empty"])
def test_nothing_to_score_is_an_error_that_names_the_input(tmp_path, monkeypatch, missing):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    make(tmp_path, "empty/notes.txt")
    with pytest.raises(ScoringError, match=missing.removeprefix("@").replace("*", r"\*")):
        find_images([missing])


def test_links_in_a_circle_end_and_are_listed_and_linked_folders_are_searched_once(tmp_path):
    make(tmp_path, "data/real/1.fits", "outside/2.fits")
    data = tmp_path / "data"
    (data / "a-link-to-real").symlink_to("real", target_is_directory=True)
    (data / "loop").symlink_to(".", target_is_directory=True)
    (data / "out").symlink_to(tmp_path / "outside", target_is_directory=True)
    (data / "self.fits").symlink_to("self.fits")
    problems = {item.name: item.problem is not None for item in find_images([data]).files}
    assert problems == {
        "a-link-to-real": True,
        "loop": True,
        "out/2.fits": False,
        "real/1.fits": False,
        "self.fits": False,  # reading it will say what is wrong
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser can list every folder")
def test_a_folder_that_cannot_be_listed_is_a_row(tmp_path):
    make(tmp_path, "1.fits", "closed/2.fits")
    (tmp_path / "closed").chmod(0)
    try:
        files = find_images([tmp_path]).files
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert [(item.name, item.problem is not None) for item in files] == [
        ("1.fits", False),
        ("closed", True),
    ]


def test_odd_names_stay_one_printable_line_each(tmp_path):
    odd = ["-n.fits", "..%2f..%2fpasswd.fits", "new\nline.fits", "θₑ étoile.fits", " .fits"]
    make(tmp_path, *odd)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.fits")).touch()
    found = names(tmp_path)
    assert len(found) == len(odd) + 1
    assert all(name.isprintable() for name in found)
    assert {"new\\nline.fits", "\\xff.fits", "θₑ étoile.fits", "-n.fits"} <= set(found)
    assert printable("a b") == "a b"
