"""Where libraries live, and where their parts are."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipkit.catalog.layout import Layout, library_folder
from clipkit.errors import ClipkitError


def test_an_explicit_folder_beats_the_variable_beats_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLIPKIT_INDEXES", raising=False)
    assert not library_folder().is_relative_to(tmp_path / "indexes")
    (tmp_path / "indexes").mkdir()
    assert library_folder() == tmp_path / "indexes" / "default"
    monkeypatch.setenv("CLIPKIT_INDEXES", str(tmp_path / "variable"))
    assert library_folder("mine") == tmp_path / "variable" / "mine"
    assert library_folder("mine", Path("explicit")) == tmp_path / "explicit" / "mine"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "c:", "a\0b"])
def test_names_that_are_not_plain_folder_names_are_rejected(name):
    with pytest.raises(ClipkitError, match="cannot be the name"):
        library_folder(name)


def test_every_model_has_one_folder_whatever_its_id():
    layout = Layout(Path("/indexes/default"))
    folders = {
        layout.vectors(space) for space in ("tiny", "ViT-B-32/openai", "ViT-B-32%2Fopenai", "/home/me/model", "..x")
    }
    assert len(folders) == 5 and {folder.parent for folder in folders} == {Path("/indexes/default/vectors")}
    assert layout.match_statistics("tiny").parent == layout.vectors("tiny")


def test_deleting_leaves_nothing_but_what_is_not_ours(tmp_path):
    layout = Layout(tmp_path / "default")
    for folder in (layout.vectors("tiny"), layout.generated, layout.bridges):
        folder.mkdir(parents=True)
    for path in (layout.catalog, *layout.locks, layout.generated / "a.png"):
        path.touch()
    layout.delete_contents()
    assert {path.name for path in layout.folder.iterdir()} == {"catalog.lock", "catalog.migrating"}
    (layout.folder / "mine.txt").touch()
    layout.delete_locks()
    assert [path.name for path in layout.folder.iterdir()] == ["mine.txt"]
    (layout.folder / "mine.txt").unlink()
    layout.delete_locks()
    assert not layout.folder.exists()
