from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipkit.images.discovery import FoundFile, Mount, Problem, count, walk
from clipkit.images.extensions import EXTENSIONS

needs_links = pytest.mark.skipif(os.name == "nt", reason="symbolic links and special files need a Unix system")


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(root: Path, exclude: Sequence[str] = ()) -> list[str]:
    return [found.path.relative_to(root).as_posix() for found in walk([root], exclude) if isinstance(found, FoundFile)]


def problems(*roots: Path) -> dict[str, str]:
    return {found.path.name: found.kind for found in walk(roots) if isinstance(found, Problem)}


def test_order_and_fields(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("b.JPG", "a.png", "z/1.tif", "c/2.nef", "c/d/3.webp", "notes.txt", "no_ext")))
    assert names(tmp_path) == ["a.png", "b.JPG", "c/2.nef", "c/d/3.webp", "z/1.tif"]
    first = next(iter(walk([tmp_path])))
    status = os.stat(tmp_path / "a.png")
    assert first == FoundFile(str(tmp_path / "a.png"), 1, status.st_mtime_ns)
    assert {".jpg", ".heic", ".avif", ".cr3", ".pnm", ".jp2"} <= EXTENSIONS


def test_it_is_lazy(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "later" / "b.jpg")
    found = walk([tmp_path])
    assert next(found).path.name == "a.jpg"
    touch(tmp_path / "later" / "a2.jpg")
    assert [item.path.name for item in found] == ["a2.jpg", "b.jpg"]


@given(
    files=st.sets(
        st.sampled_from(("a.jpg", "B.PNG", ".h.jpg", "n.txt", "c/a.jpg", "c/d/b.tif", "@eaDir/a.jpg", "e/f.jpg/a"))
    ),
    roots=st.lists(st.sampled_from((".", "c", "a.jpg", "none")), min_size=1, max_size=3),
    exclude=st.sampled_from(((), ("*.png",), ("c/",))),
)
@settings(max_examples=60, deadline=None)
def test_counting_finds_what_walking_does(files: set[str], roots: list[str], exclude: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        touch(*(Path(folder) / name for name in files))
        chosen = [Path(folder) / root for root in roots]
        found = [one for one in walk(chosen, exclude) if not isinstance(one, Mount)]
        assert count(chosen, exclude, lambda: False) == len(found)
        assert count(chosen, exclude, lambda: True) in ((None,) if found else (None, 0))


def test_hidden_and_ignored_folders(tmp_path: Path) -> None:
    touch(
        *(tmp_path / name for name in (".h.jpg", ".cache/a.jpg", "@eaDir/a.jpg", "node_modules/a.jpg", "x/.git/a.jpg"))
    )
    touch(tmp_path / "__MACOSX" / "a.jpg", tmp_path / "x" / "ok.jpg")
    assert names(tmp_path) == ["x/ok.jpg"]
    assert names(tmp_path / ".cache") == ["a.jpg"] and names(tmp_path / "@eaDir") == ["a.jpg"]


@pytest.mark.parametrize(
    "glob, left",
    [
        ("*.jpg", ["c/b.png"]),
        ("c", ["a.jpg"]),
        ("c/", ["a.jpg"]),
        ("a.jpg/", ["a.jpg", "c/a.jpg", "c/b.png", "c/d/a.jpg"]),
        ("c/*.jpg", ["a.jpg", "c/b.png", "c/d/a.jpg"]),
        ("c/**/*.jpg", ["a.jpg", "c/b.png"]),
        ("**/d/**", ["a.jpg", "c/a.jpg", "c/b.png"]),
        ("**/a.jpg", ["c/b.png"]),
        ("./c/d", ["a.jpg", "c/a.jpg", "c/b.png"]),
        ("[a-b].jpg", ["c/b.png"]),
        ("[!a].*", ["a.jpg", "c/a.jpg", "c/d/a.jpg"]),
        ("[", ["a.jpg", "c/a.jpg", "c/b.png", "c/d/a.jpg"]),
        ("?.png", ["a.jpg", "c/a.jpg", "c/d/a.jpg"]),
    ],
)
def test_exclude_globs(tmp_path: Path, glob: str, left: list[str]) -> None:
    touch(*(tmp_path / name for name in ("a.jpg", "c/a.jpg", "c/b.png", "c/d/a.jpg")))
    assert names(tmp_path, [glob]) == left
    assert names(tmp_path, [f"{tmp_path.as_posix()}/c"]) == ["a.jpg"]


def test_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a" / "1.jpg", tmp_path / "a" / "odd.txt", tmp_path / "b.jpg")
    assert [f.path.name for f in walk([tmp_path / "a" / "odd.txt"])] == ["odd.txt"]
    twice = [f.path.name for f in walk([tmp_path, tmp_path / "a", tmp_path / "a" / "1.jpg", tmp_path / "b.jpg"])]
    assert sorted(twice) == ["1.jpg", "b.jpg"]
    assert [f.path.name for f in walk([tmp_path / "b.jpg"], ["b*"])] == []
    assert names(tmp_path / "a", ["a"]) == ["1.jpg"]
    monkeypatch.chdir(tmp_path)
    assert [f.path for f in walk([Path("a")])] == [tmp_path / "a" / "1.jpg"]
    (missing,) = walk([tmp_path / "none"])
    assert isinstance(missing, Problem) and missing.kind == "vanished" and missing.reason


@needs_links
def test_symlinks(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "1.jpg", tmp_path / "elsewhere" / "2.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a" / "3.jpg").symlink_to(tmp_path / "elsewhere" / "2.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "gone.txt").symlink_to("nowhere")
    (tmp_path / "circle.png").symlink_to("circle.png")
    assert names(tmp_path) == ["a/1.jpg", "a/3.jpg", "a/out/2.jpg"]
    assert problems(tmp_path) == {"gone.jpg": "vanished", "circle.png": "unreadable"}


@needs_links
def test_special_files_are_named_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(tmp_path / "s.png"))
        touch(tmp_path / "folder.jpg" / "in.jpg")
        assert problems(tmp_path) == {"pipe.jpg": "unreadable", "s.png": "unreadable", "folder.jpg": "directory"}
        assert names(tmp_path) == ["folder.jpg/in.jpg"]
        assert problems(Path("/dev/null"), tmp_path / "pipe") == {"null": "unreadable", "pipe": "unreadable"}


@needs_links
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    touch(tmp_path / "closed" / "a.jpg")
    os.chmod(tmp_path / "closed", 0)
    try:
        assert problems(tmp_path) == {"closed": "unreadable"}
    finally:
        os.chmod(tmp_path / "closed", 0o700)


@needs_links
def test_a_very_deep_tree(tmp_path: Path) -> None:
    here, depth = os.getcwd(), 0
    os.chdir(tmp_path)
    try:
        for _ in range(1100):  # deeper than Python's recursion limit
            os.mkdir("d")
            os.chdir("d")
            depth += 1
        Path("a.jpg").touch()
        found = list(walk([tmp_path]))
    finally:
        Path("a.jpg").unlink(missing_ok=True)
        for _ in range(depth):  # pytest's cleanup recurses, and would fail
            os.chdir("..")
            os.rmdir("d")
        os.chdir(here)
    assert [item.path.name for item in found] == ["a.jpg"]


@needs_links
def test_undecodable_names(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\n \xe9.jpg")
    try:
        touch(tmp_path / name)
    except OSError:
        pytest.skip("this file system takes Unicode names alone")
    assert names(tmp_path, ["*.png", "[\xe9]"]) == [name]
    assert names(tmp_path, ["*.jpg"]) == []


parts = st.text("ab.[]*j", min_size=1, max_size=4).filter(lambda name: not name.startswith(".") and name.strip("."))
trees = st.sets(st.lists(parts, min_size=1, max_size=3).map(tuple), max_size=12)
globs = st.lists(st.text("ab*?[]!/.-j", min_size=1, max_size=6), max_size=3)


@settings(max_examples=80, deadline=None)
@given(trees, globs)
def test_random_trees_and_globs(tree: set[tuple[str, ...]], exclude: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        made = set()
        for path in tree:
            try:
                touch(root.joinpath(*path[:-1], path[-1] + ".jpg"))
                made.add("/".join((*path[:-1], path[-1] + ".jpg")))
            except OSError:  # a name that is taken by a folder, or that this system rejects
                pass
        everything = names(root)
        assert set(everything) == made and len(everything) == len(made)
        kept = names(root, exclude)
        assert [name for name in everything if name in set(kept)] == kept, "excluding keeps the order"
        for name in made - set(kept):
            assert exclude, name
        simple = [glob for glob in exclude if not set(glob) & set("/[]*")]
        for name in kept:
            assert not any(fnmatchcase(part, glob) for part in name.split("/") for glob in simple)
