"""`clipkit demo`: what a new user sees first."""

from __future__ import annotations

import re

from PIL import Image


def test_the_demo_finds_pictures_and_generates_one_that_is_missing(clipkit, tmp_path):
    output = clipkit("demo", tmp_path / "demo", "--scenes", "200")
    assert output.code == 0 and "Traceback" not in output.err
    searches = re.findall(r"^   (?:By|Something).*?: (clipkit search .*)\n((?:   .*\n)+)", output.out, re.M)
    assert len(searches) == 4
    firsts = [lines.splitlines()[0].split()[0] for _, lines in searches]
    assert firsts == ["match", "match", "match", "-"], output.out
    assert "photos/2024/IMG_0000.jpg" in searches[0][1].splitlines()[0], "the cat on the beach comes first"
    assert "nothing matches" in searches[3][1] and "generated, not found" in searches[3][1]
    assert len(list((tmp_path / "demo").rglob("generated/*.png"))) == 1
    with Image.open(tmp_path / "demo/contact-sheet.jpg") as sheet:
        assert sheet.width > 1000 and sheet.height > 1000
    assert len(list((tmp_path / "demo/photos").rglob("*.jpg"))) == 200
    again = clipkit("demo", tmp_path / "demo", "--scenes", "200")
    assert again.code == 0 and "200 unchanged" in again.out


def test_the_commands_that_the_demo_suggests_work(clipkit, tmp_path, monkeypatch):
    import shlex

    monkeypatch.chdir(tmp_path)
    output = clipkit("demo", tmp_path / "demo", "--scenes", "100")
    commands = re.findall(r"^  clipkit (.*)$", output.out, re.M)
    assert len(commands) == 6 and commands[-1].startswith("serve ")
    for line in commands[:4]:
        assert clipkit(*shlex.split(line)).code == 0, line
    assert (tmp_path / "hits.jpg").is_file()
