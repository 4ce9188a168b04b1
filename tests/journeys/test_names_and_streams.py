"""File names with control characters, and unusual standard streams."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipkit.cli.main import main
from clipkit.cli.printing import path_line, printable

NAMES = [
    "a\x1b]0;owned\x07\x1b[2J.jpg",
    "b\rc.jpg",
    "d\te\nf.jpg",
    "g\u202egpj.jpg",
    "h\x9b31m.jpg",
    "\u65e5\u672c.jpg",
]
ESCAPED = [r"a\x1b]0;owned\x07\x1b[2J.jpg", r"b\rc.jpg", r"d\te\nf.jpg", r"g\u202egpj.jpg", r"h\x9b31m.jpg"]
ESCAPED += ["\u65e5\u672c.jpg"]
CAPTURED = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 300}
SEARCH = ("search", "a cat", "--generate", "never", "--min-confidence", "0")


@pytest.fixture(scope="module")
def once(scene_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `p` of different pictures with such names and one broken file, and a library of it."""
    once = tmp_path_factory.mktemp("strange")
    folder = once / "p"
    folder.mkdir()
    for name, source in zip(NAMES, sorted(scene_folder.rglob("*.jpg")), strict=False):
        (folder / name).write_bytes(source.read_bytes())
    (folder / "broken\x1b[31m.jpg").write_bytes(b"x")
    assert main(["index", str(folder), "--model", "tiny", "--indexes", str(once / "indexes")]) == 0
    return once


@pytest.fixture
def strange(once: Path, tmp_path: Path) -> Path:
    """The folder, indexed in the test's own library."""
    shutil.copytree(once / "indexes", tmp_path / "indexes")
    return once / "p"


def command(indexes: Path, *arguments: str, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "CLIPKIT_INDEXES": str(indexes), **options.pop("env", {})}
    return subprocess.run([sys.executable, "-m", "clipkit", *arguments], env=environment, **{**CAPTURED, **options})


def test_names_are_escaped_for_people_and_exact_in_json_and_with_nul(clipkit, strange, tmp_path):
    table = clipkit(*SEARCH).out
    assert sorted(line.split("\t")[4] for line in table.splitlines()) == sorted(f"{strange}/{name}" for name in ESCAPED)
    rows = list(csv.reader(io.StringIO(clipkit(*SEARCH, "--csv").out, newline="")))
    assert sorted(row[1] for row in rows[1:]) == sorted(f"{strange}/{name}" for name in ESCAPED)
    assert sorted(clipkit(*SEARCH, "--paths").out.splitlines()) == sorted(f"{strange}/{name}" for name in ESCAPED)
    exact = sorted(f"{strange}/{name}" for name in NAMES)
    assert sorted(clipkit(*SEARCH, "-0").out.split("\0")[:-1]) == exact
    assert sorted(hit["path"] for hit in json.loads(clipkit(*SEARCH, "--json").out)["hits"]) == exact
    failures = clipkit("failures").out
    assert r"broken\x1b[31m.jpg" in failures and "\x1b" not in failures
    assert json.loads(clipkit("failures", "--json").out)[0]["path"] == f"{strange}/broken\x1b[31m.jpg"
    for arguments in (("index", tmp_path / "x\x1b[2J\r"), ("verify", strange / "broken\x1b[31m.jpg")):
        said = clipkit(*arguments).err
        assert said.count("\n") == 1 and not set(said[:-1]) & set(map(chr, (*range(32), 127))), said


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_no_control_character_of_a_name_reaches_a_terminal(strange, tmp_path):
    import pty

    for option in ((), ("--paths",), ("--csv",)):
        master, slave = pty.openpty()
        wide = {"COLUMNS": "300"}  # names must not be broken across lines
        command(tmp_path / "indexes", *SEARCH, *option, stdout=slave, stderr=slave, stdin=slave, env=wide)
        os.close(slave)
        said = b""
        try:
            while part := os.read(master, 65536):
                said += part
        except OSError:  # end of file, on Linux
            pass
        os.close(master)
        assert rb"\x1b]0;owned" in said and b"\x1b]0;owned" not in said and b"\x07" not in said and b"b\rc" not in said


def test_characters_that_the_output_encoding_lacks_are_escaped(strange, tmp_path):
    for encoding in ("cp1252", "ascii"):
        done = command(tmp_path / "indexes", *SEARCH, env={"PYTHONIOENCODING": encoding})
        assert done.returncode == 0 and rb"\u65e5\u672c.jpg" in done.stdout and b"Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_closed_streams_do_not_change_the_exit_code(strange, tmp_path):
    environment = os.environ | {"CLIPKIT_INDEXES": str(tmp_path / "indexes")}
    for closed, arguments, expected in (
        (">&-", SEARCH, 0),
        ("2>&-", SEARCH, 0),
        ("<&- >&- 2>&-", (*SEARCH, "-0"), 0),
        (">&-", ("index",), 0),
        (">&-", ("search", "?!..."), 2),
    ):
        shell = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "clipkit", *arguments]
        done = subprocess.run(shell, env=environment, **CAPTURED)
        assert (done.returncode, done.stderr.count(b"Traceback")) == (expected, 0), (closed, arguments, done.stderr)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line(strange, tmp_path):
    with open("/dev/full", "w") as full:
        done = command(tmp_path / "indexes", *SEARCH, "--json", stdout=full)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1 and done.stderr.startswith(b"clipkit: ")


NONSENSE = {
    "no word": (["search", "?!..."], "no word"),
    "no word in any script": (["search", "\u00bf\u3002\u2026"], "no word"),
    "no word to generate": (["generate", "..."], "no word"),
    "no word to avoid": (["search", "a dog", "--not", "--"], "no word"),
    "not a number": (["search", "a dog", "--min-confidence", "nan"], "nan"),
    "no guidance": (["generate", "a dog", "--guidance", "nan"], "nan"),
    "huge weight": (["search", "a dog", "--not", "a cat", "--weight", "1e300"], "weights"),
    "tiny weight": (["search", "a dog", "--not", "a cat", "--weight", "1e-300"], "weights"),
    "unknown folder": (["search", "a dog", "--under", "/nowhere/at/all"], "/nowhere/at/all"),
}


def test_nonsense_is_rejected_in_one_line(clipkit, strange):
    for case, (arguments, hint) in NONSENSE.items():
        output = clipkit(*arguments)
        assert (output.code, output.out) == (2, ""), (case, output)
        assert output.err.count("\n") == 1 and hint in output.err, (case, output.err)


def test_an_emoji_is_a_query_but_an_unknown_one_generates_nothing(clipkit, strange):
    output = clipkit("search", "\N{CAT}", "--json")
    answer = json.loads(output.out)
    assert (output.code, answer["generated"], answer["query"]["unknown_words"]) == (1, [], ["\N{CAT}"])


def test_k_may_exceed_the_number_of_pictures(clipkit, strange):
    assert clipkit(*SEARCH, "-k", str(10**20)).out.count("\n") == len(NAMES)


def test_a_dangling_link_cannot_be_indexed(clipkit, tmp_path):
    (tmp_path / "dead").symlink_to("nowhere")
    output = clipkit("index", tmp_path / "dead", "--model", "tiny")
    assert output.code == 2 and "dangling symlink" in output.err and output.err.count("\n") == 1


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec=None), max_size=20))
def test_printable_text_is_one_line_without_control_characters(text):
    line = printable(text)
    line.encode()  # no surrogates
    assert line.splitlines() in ([line], [])
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in line)
    if text.isprintable():
        assert line == text


def test_undecodable_bytes_are_kept_in_lists_for_programs():
    path = Path(os.fsdecode(b"/p/\xff\x1b.jpg"))
    assert path_line(path) == b"/p/\xff\\x1b.jpg\n" and printable(path) == r"/p/\udcff\x1b.jpg"
