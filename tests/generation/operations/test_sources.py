"""Which picture a reference names."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from clipkit import Library
from clipkit.errors import BadQuery, ClipkitError, FetchRefused, UnreadableImage
from clipkit.generation.operations.sources import find_source, names_picture
from clipkit.searching.query import Words


@pytest.fixture
def library(tmp_path: Path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (64, 48), colour).save(folder / f"{number}.png")
    with Library.create(tmp_path / "library", model="tiny") as library:
        library.index([folder])
        yield library


def test_the_id_of_a_hit_names_its_file(library: Library):
    for hit in library.search("a red car", k=3):
        for reference in (hit.id, str(hit.id)):
            source = find_source(reference, library.catalog)
            assert source.name == str(hit.path)
            assert source.open().size == (64, 48)


def test_a_generated_picture_is_named_by_its_number(library: Library):
    picture = library.generate("a dog", seed=1, steps=2)[0]
    source = find_source(f"generated:{picture.id}", library.catalog)
    assert source.data == picture.path
    with pytest.raises(BadQuery, match="clipkit generated"):
        find_source("generated:99", library.catalog)


def test_the_same_bytes_have_the_same_hash_however_they_are_given(library: Library):
    hit = library.search("a red car", k=1).hits[0]
    by_id = find_source(hit.id, library.catalog)
    assert by_id.content == find_source(hit.path).content == find_source(hit.path.read_bytes()).content
    row = library.catalog.db.execute("SELECT hash FROM images WHERE id = ?", [hit.id]).fetchone()
    assert by_id.content == row[0]
    assert find_source(by_id) is by_id


def test_an_id_is_that_of_the_file_and_a_copy_stands_in_for_it(library: Library, tmp_path: Path):
    folder = tmp_path / "photos"
    for name in ("copy 1.png", "copy 2.png"):  # files without embeddings of their own
        (folder / name).write_bytes((folder / "1.png").read_bytes())
    Image.new("RGB", (64, 48), "yellow").save(folder / "last.png")
    library.index()
    ids = {Path(path).name: number for number, path in library.catalog.db.execute("SELECT id, path FROM images")}
    for name, number in ids.items():
        assert find_source(number, library.catalog).name == str(folder / name)
    (folder / "copy 1.png").unlink()
    assert find_source(ids["copy 1.png"], library.catalog).name == str(folder / "1.png")


def test_a_relative_name_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "12.png")
    (tmp_path / "12").write_bytes((tmp_path / "12.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert find_source("12.png").name == str(tmp_path / "12.png")
    assert find_source("./12").name == str(tmp_path / "12")
    with pytest.raises(BadQuery, match="./12"):
        find_source("12")


@pytest.mark.parametrize("number", [999, 2**63, 10**30])
def test_an_unknown_id_is_refused(library: Library, number: int):
    with pytest.raises(BadQuery, match="clipkit search --json"):
        find_source(number, library.catalog)


def test_what_is_no_picture_is_refused_in_one_line(tmp_path: Path):
    (tmp_path / "notes.png").write_text("no picture")
    cases = [
        (tmp_path / "missing.png", BadQuery),
        (tmp_path, UnreadableImage),
        ("http://127.0.0.1/picture.png", FetchRefused),
        (tmp_path / "notes.png", UnreadableImage),
        (b"no picture", UnreadableImage),
    ]
    for reference, error in cases:
        with pytest.raises(ClipkitError) as caught:
            find_source(reference).open()
        assert isinstance(caught.value, error), reference
        assert "\n" not in str(caught.value)


def test_a_picture_is_told_from_words(tmp_path: Path):
    (tmp_path / "odd name").touch()
    for picture in ("12", "generated:3", "http://example.org/a", "dog.jpg", f"{tmp_path}/odd name", "my dogs/a b.HEIC"):
        assert names_picture(picture), picture
    for words in (Words("12"), Words("dog.jpg"), Words(str(tmp_path / "odd name"))):
        assert not names_picture(words), words
    for words in ("a dog", "twelve", "a dog in a .png", "dog", "x" * 5000, "a\0b"):
        assert not names_picture(words), words
