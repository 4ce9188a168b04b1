"""Every command and every line of Python in README, CONTRIBUTING and docs does what it says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import click
import pytest
from documents import DOCUMENTS, ROOT, blocks, commands, name_of

from clipkit.cli.main import commands as clipkit_commands
from clipkit.cli.main import main
from clipkit.samples.photos import write_samples

SETUP = [line for line in commands("") if line.startswith("python3 -m venv")]
WRITES = {
    "README.md": ("violin.png",),
    "docs/searching.md": ("hits.jpg", "embeddings/img_emb/img_emb_0.npy"),
    "docs/generation.md": ("cat.png", "dog.png"),
    "docs/python.md": ("hits.jpg", "noise.png", "embeddings/metadata/metadata_0.parquet"),
}
"""Files that the examples of a document leave behind."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the photos that the examples name, indexed once with `tiny`; `saved` keeps that library."""
    folder = tmp_path_factory.mktemp("documents")
    write_samples(folder / "photos", 400, size=96)
    arguments = ["--model", "tiny", "--indexes", str(folder / "saved")]
    assert main(["index", str(folder / "photos"), *arguments]) == 0
    return folder


@pytest.fixture
def clipkit(clipkit, folder, monkeypatch):
    """The command line in a folder that holds the photos and their library, and nothing that other examples left."""
    for path in folder.iterdir():
        if path.is_dir() and path.name not in ("photos", "saved"):
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    shutil.copytree(folder / "saved", folder / "indexes")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CLIPKIT_INDEXES", str(folder / "indexes"))
    return clipkit


def test_the_two_setup_commands_are_what_ci_runs():
    readme = [line for block in blocks(ROOT / "README.md") for line in block.lines]
    setup = [line for line in readme if line in SETUP]
    assert len(setup) == 2
    assert setup[0].endswith(".venv/bin/pip install '.[web]' && .venv/bin/clipkit demo")
    assert setup[1].endswith(".venv/bin/pip install '.[dev]' && .venv/bin/pytest")
    ci = (ROOT / ".ci" / "run").read_text()
    for command in ("$demo_command", "${test_command% && *}", "${test_command##* && }"):
        assert f'eval "{command}"' in ci


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_example_runs(clipkit, folder, document):
    for block in blocks(document):
        if block.mark:
            continue
        if block.language == "python":
            exec(compile(block.code, name_of(document), "exec"), {})
            continue
        for line in block.lines:
            if line.startswith("clipkit"):
                run(clipkit, line)
            else:
                assert is_for_contributors(line), line
    for name in WRITES.get(name_of(document), ()):
        assert (folder / name).is_file(), name


def run(clipkit, line: str) -> None:
    """Run one command line, whose output may go through a pipe, and check its exit code."""
    line, _, expected = line.partition("  # exits with ")
    command, _, rest = line.partition(" | ")
    if command.startswith("clipkit serve"):
        answers(shlex.split(command)[1:])
        return
    output = clipkit(*shlex.split(command)[1:])
    assert output.code == int(expected or 0), (line, output)
    if rest:
        piped = subprocess.run(rest, shell=True, input=output.out.encode(), capture_output=True, check=True)
        assert piped.stdout


def answers(arguments: list[str]) -> None:
    """Start a server as a user does, and open the page that it names."""
    command = [sys.executable, "-m", "clipkit", *arguments, "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            with urllib.request.urlopen(server.stdout.readline().strip()) as page:
                assert page.status == 200 and b"clipkit" in page.read()
        finally:
            server.terminate()


def is_for_contributors(line: str) -> bool:
    """Tell whether a line sets clipkit up, tests it, or calls a script of this repository; those run elsewhere."""
    programs = ("git ", "just ", ".venv/bin/pip ", ".venv/bin/pytest", ".venv/bin/ruff ", ".venv/bin/mypy", ".ci/")
    script = re.match(r"(?:\.venv/bin/)?python (scripts/\S+\.py)", line)
    return line in SETUP or line.startswith(programs) or (script is not None and (ROOT / script[1]).is_file())


def test_the_examples_are_many():
    runs = [line for line in commands("") if line.startswith("clipkit")]
    assert len(runs) >= 40 and len(commands("downloads")) >= 8 and len(commands("not run")) >= 6


def test_the_readmes_python_prints_hits(clipkit, capfdbinary):
    (block,) = [block for block in blocks(ROOT / "README.md") if block.language == "python"]
    exec(compile(block.code, "README.md", "exec"), {})
    first = capfdbinary.readouterr().out.splitlines()[0]
    assert first.startswith(b"1 ") and first.endswith(b"True")


@pytest.mark.parametrize("line", commands("downloads"))
def test_what_must_be_downloaded_stops_in_one_line_without_a_network(clipkit, folder, line):
    pictures = folder / "Pictures"
    pictures.mkdir()
    arguments = [str(pictures) if word == "~/Pictures" else word for word in shlex.split(line)[1:]]
    output = clipkit(*arguments, *(("--name", "new") if str(pictures) in arguments else ()))
    assert output.code == 2 and output.err.count("\n") == 1, (line, output)
    if arguments[0] in ("models", "index"):
        assert "tiny" in output.err and "clipkit models" in output.err
    else:
        assert "HF_HUB_OFFLINE" in output.err


@pytest.mark.parametrize("line", commands("downloads") + commands("not run"))
def test_commands_that_do_not_run_here_exist(line):
    if line.startswith("clipkit"):
        command, arguments = clipkit_commands, shlex.split(line)[1:]
        while isinstance(command, click.Group):
            child = command.get_command(click.Context(command), arguments.pop(0))
            assert child, line
            command = child
        try:
            command.make_context("clipkit", arguments)
        except click.BadParameter as error:  # a file that is not here
            assert not isinstance(error, click.MissingParameter), line
    else:
        assert line.startswith("pip install "), line
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
        named = re.findall(r"'clipkit\[(\w+)\]'", line)
        assert named and set(named) <= extras.keys()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_python_that_does_not_run_here_names_what_there_is(document):
    for block in blocks(document):
        if block.language == "python" and block.mark:
            compile(block.code, name_of(document), "exec")
            for line in block.lines:
                if line.startswith(("from clipkit", "import clipkit")):
                    exec(line, {})
