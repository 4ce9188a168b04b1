"""Every command and every line of Python in the README does what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from clipkit.samples.photos import write_samples

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.M | re.S)  # all, lest an end be taken for a beginning
    return [block for tag, block in fenced if tag == language]


COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]
SETUP = [line for line in COMMANDS if line.startswith("python3 -m venv")]


def test_the_two_setup_commands_are_what_ci_runs():
    assert len(SETUP) == 2
    assert SETUP[0].endswith(".venv/bin/pip install . && .venv/bin/clipkit demo")
    assert SETUP[1].endswith(".venv/bin/pip install '.[dev]' && .venv/bin/pytest")
    ci = (ROOT / ".ci" / "run").read_text()
    assert 'eval "$demo_command"' in ci and 'eval "$test_command"' in ci


def test_every_command(clipkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_samples(tmp_path / "photos", 400, size=96)
    ran = 0
    for line in COMMANDS:
        if line in SETUP:
            continue
        command, _, rest = line.partition(" | ")
        program, *arguments = shlex.split(command)
        assert program == "clipkit"
        output = clipkit(*arguments)
        assert output.code == 0, (line, output)
        if rest:
            piped = subprocess.run(rest, shell=True, input=output.out.encode(), capture_output=True, check=True)
            assert piped.stdout
        ran += 1
    assert ran >= 15
    assert (tmp_path / "hits.jpg").is_file() and (tmp_path / "embeddings/img_emb/img_emb_0.npy").is_file()


def test_the_python(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_samples(tmp_path / "photos", 60, size=64)
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("1 ") and printed[0].endswith("True") and printed[5].startswith("True")


def test_what_needs_a_network_stops_in_one_line_without_one(clipkit, tmp_path, monkeypatch):
    lines = [
        line for block in blocks("text") for line in block.splitlines() if "FOLDER" not in line and "remove" not in line
    ]
    assert len(lines) >= 4 and any(line.startswith("clipkit index ~/Pictures --model") for line in lines)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "Pictures").mkdir()
    assert clipkit("index", tmp_path / "Pictures", "--model", "tiny", "--name", "default").code == 0
    for line in lines:
        arguments = [str(tmp_path / "Pictures") if word == "~/Pictures" else word for word in shlex.split(line)[1:]]
        name = ["--name", "new"] if arguments[:2] == ["index", str(tmp_path / "Pictures")] else []
        output = clipkit(*arguments, *name)
        assert output.code == 2 and output.err.count("\n") == 1 and "tiny" in output.err, (line, output)
        assert "clipkit models" in output.err


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:|#)([^)]+)\)", README))
def test_links_lead_somewhere(link):
    assert (ROOT / link).is_file()
