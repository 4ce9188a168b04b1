"""Generated pictures: made on a miss, marked, recorded, and never taken for photographs."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipkit import Library, Query
from clipkit.marks.reading import verify


@pytest.fixture
def library_of_scenes(scene_library) -> Path:
    """The folder that holds the test's own library of scenes, none of which shows a whale."""
    return scene_library.parent


MISSING = "a helicopter in the snow"


def test_a_search_that_misses_generates_a_picture_and_says_so(clipkit, library_of_scenes):
    output = clipkit("search", MISSING, "--json")
    result = json.loads(output.out)
    assert output.code == 0 and not result["matched"] and len(result["hits"]) == 10
    (picture,) = result["generated"]
    path = Path(picture["path"])
    assert path.parent == library_of_scenes / "default" / "generated" and picture["decoder"] == "tiny"
    assert any("generated, not found" in note and str(path) in note for note in result["notes"])
    with Image.open(path) as image:
        assert image.size == (256, 256)
    marks = verify(path)
    assert marks.generated and marks.watermark.found
    assert marks.provenance.query == MISSING and marks.provenance.seed == picture["seed"]
    assert path not in [Path(hit["path"]) for hit in result["hits"]]


def test_the_same_query_returns_the_same_picture_unless_fresh(clipkit, library_of_scenes):
    first, again, fresh = (
        json.loads(clipkit("search", MISSING, "--json", *more).out)["generated"][0] for more in ((), (), ("--fresh",))
    )
    assert again["path"] == first["path"] and again["id"] == first["id"]
    assert fresh["path"] != first["path"] and fresh["seed"] != first["seed"]
    newest = json.loads(clipkit("search", MISSING, "--json").out)["generated"][0]
    assert newest["path"] == fresh["path"]
    Path(fresh["path"]).unlink()
    assert json.loads(clipkit("search", MISSING, "--json").out)["generated"][0]["path"] == first["path"]


def test_generate_never_generates_nothing_and_exits_with_1(clipkit, library_of_scenes):
    output = clipkit("search", MISSING, "--generate", "never")
    assert output.code == 1 and "nothing matches" in output.err and "generated" not in output.out
    assert not (library_of_scenes / "default" / "generated").exists()


def test_a_query_that_matches_generates_nothing_unless_asked(clipkit, library_of_scenes):
    output = clipkit("search", "a cat on the beach")
    assert output.code == 0 and "generated" not in output.out
    always = json.loads(clipkit("search", "a cat on the beach", "--generate", "always", "--json").out)
    assert always["matched"] and len(always["generated"]) == 1


def test_unknown_words_generate_no_picture(clipkit, library_of_scenes):
    output = clipkit("search", "xylophonist")
    assert output.code == 1 and "no picture was generated" in output.err


def test_generated_pictures_never_match_even_if_their_folder_is_indexed(clipkit, library_of_scenes):
    generated = library_of_scenes / "default" / "generated"
    assert clipkit("generate", MISSING, "-n", "3", "--seed", "1").code == 0
    assert clipkit("index", generated).code == 0
    result = json.loads(clipkit("search", MISSING, "--json", "--generate", "never").out)
    assert not result["matched"]
    assert not [hit for hit in result["hits"] if Path(hit["path"]).parent == generated]


def test_the_same_seed_gives_the_same_bytes(clipkit, tmp_path, library_of_scenes):
    one, two, other = (tmp_path / name for name in ("one.png", "two.png", "other.png"))
    for path, seed in ((one, "5"), (two, "5"), (other, "6")):
        assert clipkit("generate", "a whale on the beach", "--seed", seed, "-o", path, "--steps", "4").code == 0
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()


def test_generate_increments_seeds_and_takes_every_option(clipkit, tmp_path, library_of_scenes):
    cat = tmp_path / "cat.png"
    Image.new("RGB", (70, 50), (240, 180, 60)).save(cat)
    query = ("a whale", "--like", cat, "--not", "at night", "--weight", "1", "--weight", "0.5")
    settings = ("-n", "2", "--seed", "9", "--steps", "3", "--guidance", "2", "--size", "100")
    output = clipkit("generate", *query, *settings, "-o", tmp_path / "w.jpg", "--json")
    rows = json.loads(output.out)
    assert [(Path(r["path"]).name, r["seed"], r["steps"], r["guidance"]) for r in rows] == [
        ("w-1.jpg", 9, 3, 2.0),
        ("w-2.jpg", 10, 3, 2.0),
    ]
    assert rows[0]["parents"] == [str(cat)]
    with Image.open(tmp_path / "w-1.jpg") as image:
        assert image.size == (100, 100) and image.format == "JPEG"


def test_leftovers_of_a_kill_are_cleaned_up_later(clipkit, library_of_scenes):
    folder = library_of_scenes / "default" / "generated"
    folder.mkdir()
    old, young = folder / ".0123.clipkit-new", folder / ".4567.clipkit-new"
    for path in (old, young):
        path.write_bytes(b"truncated")
    os.utime(old, (1, 1))
    assert clipkit("generate", "a whale", "--steps", "1").code == 0
    assert not old.exists() and young.exists()


def test_generated_lists_shows_and_removes(clipkit, library_of_scenes):
    clipkit("generate", "a whale", "-n", "3", "--steps", "2", "--seed", "1")
    rows = json.loads(clipkit("generated", "--json").out)
    assert [row["seed"] for row in rows] == [1, 2, 3]
    assert clipkit("generated").out.count("a whale") == 3
    number = str(rows[1]["id"])
    (row,) = json.loads(clipkit("generated", "show", number, "--json").out)
    assert row == rows[1] | {"command": row["command"]}
    shown = clipkit("generated", "show", number).out
    assert "seed                     2\n" in shown and "text: a whale" in shown and rows[1]["path"] in shown
    assert clipkit("generated", "show", "99999").code == 2
    assert clipkit("generated", "remove", str(rows[0]["id"])).code == 0
    assert not Path(rows[0]["path"]).exists()
    missing = clipkit("generated", "remove", "99999")
    assert missing.code == 2 and missing.err.count("\n") == 1
    assert clipkit("generated", "remove", "--all").code == 0
    assert json.loads(clipkit("generated", "--json").out) == []


def test_show_prints_the_command_that_makes_a_picture_again(clipkit, tmp_path, library_of_scenes, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (70, 50), (240, 180, 60)).save("a cat.png")
    Image.new("RGB", (70, 50), (40, 80, 60)).save("dark.png")
    query = (
        "-a whale",
        "--also",
        "the sea",
        "--also",
        "-snow",
        "--like",
        "a cat.png",
        "--not",
        "at night",
        "--not",
        "dark.png",
        "--weight",
        "2",
    )
    settings = ("-n", "2", "--seed", "9", "--steps", "3", "--guidance", "2", "--size", "100")
    shutil.copytree(library_of_scenes / "default", library_of_scenes / "other")
    first, second = json.loads(clipkit("generate", *settings, "--json", "--name", "other", "--", *query[:1]).out)
    third = json.loads(clipkit("generate", *settings, *query[1:], "--json", "--name", "other", "--", query[0]).out)[1]
    asked = "-a whale, the sea, -snow, like a cat.png, not at night, not dark.png"
    assert verify(Path(third["path"])).provenance.query == asked
    assert asked in clipkit("generated", "--name", "other").out
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for row in (first, second, third):
        (shown,) = json.loads(clipkit("generated", "--name", "other", "show", str(row["id"]), "--json").out)
        name, *words = shlex.split(shown["command"])
        output = clipkit(*words)
        assert (name, output.code) == ("clipkit", 0), output.err
        again = Path(output.out.strip())
        assert again != Path(row["path"]) and again.read_bytes() == Path(row["path"]).read_bytes()


def test_pictures_of_older_versions_are_made_again_too(clipkit, library_of_scenes):
    (row,) = json.loads(clipkit("generate", "a whale", "--not", "at night", "--steps", "2", "--json").out)
    with sqlite3.connect(library_of_scenes / "default" / "catalog.db") as db:
        db.execute("UPDATE generations SET parameters = '{}'")
    (shown,) = json.loads(clipkit("generated", "show", str(row["id"]), "--json").out)
    again = clipkit(*shlex.split(shown["command"])[1:])
    assert Path(again.out.strip()).read_bytes() == Path(row["path"]).read_bytes()


def test_a_picture_without_a_name_has_no_command(library_of_scenes):
    with Library.open(library_of_scenes / "default") as library:
        (picture,) = library.generate(Query(like=(Image.new("RGB", (64, 64), "red"),)), seed=3, steps=2)
        assert library.command_of(picture) is None


@pytest.mark.parametrize(
    "wrong",
    [
        ("generate", ""),
        ("generate", "a whale", "-o", "picture.xyz"),
        ("generate", "a whale", "--decoder", "nobody"),
        ("generate", "--like", "absent.jpg"),
        ("generate", "a whale", "--decoder", "kandinsky-2-2", "--steps", "1"),
    ],
)
def test_mistakes_are_one_line(clipkit, library_of_scenes, wrong):
    output = clipkit(*wrong)
    assert output.code == 2 and output.err.startswith("clipkit: ") and output.err.count("\n") == 1, output.err


def test_generating_without_a_library_needs_a_decoder_and_a_file(clipkit, tmp_path):
    path = tmp_path / "alone.webp"
    assert clipkit("generate", "a whale", "--steps", "2").code == 2
    assert clipkit("generate", "a whale", "--steps", "2", "--decoder", "tiny", "-o", path).code == 0
    assert verify(path).generated


def test_the_same_in_python(library_of_scenes, tmp_path):
    with Library.open(library_of_scenes / "default") as library:
        (picture,) = library.generate(Query(text="a whale"), seed=3, steps=2)
        assert picture.path.is_file() and [g.id for g in library.generated()] == [picture.id]
        result = library.search(MISSING, generate="auto")
        assert not result.matched and result.generated[0].query["text"] == MISSING
        library.contact_sheet(result, tmp_path / "sheet.png")
        assert library.search(MISSING).generated == ()
        assert len(library.remove_generated()) == 2 and not picture.path.exists()


def test_a_library_without_a_decoder_says_how_to_get_one(tmp_path, clipkit, scene_folder):
    """As for a model of photographs: nothing is downloaded, and no decoder of another model steps in."""
    from clipkit.models.registry import BUNDLED

    other = tmp_path / "other-space"
    shutil.copytree(BUNDLED / "clip", other)
    assert clipkit("index", scene_folder, "--model", other).code == 0
    output = clipkit("search", MISSING)
    assert output.code == 1 and "clipkit generate --decoder kandinsky-2-2" in output.err
    refused = clipkit("generate", MISSING)
    assert refused.code == 2 and "kandinsky-2-2" in refused.err


def test_a_kandinsky_checkpoint_generates_by_the_same_command(clipkit, kandinsky, library_of_scenes):
    files = []
    for _ in range(2):
        output = clipkit("generate", "a dog", "--decoder", kandinsky, "--seed", "4", "--json")
        assert output.code == 0, output.err
        files.append(Path(json.loads(output.out)[0]["path"]))
    assert files[0] != files[1] and files[0].read_bytes() == files[1].read_bytes()
    assert verify(files[0]).provenance.model == kandinsky.name


@pytest.mark.skipif(sys.platform == "win32", reason="forks processes, to restart without imports of ten seconds")
def test_a_kill_while_generating_leaves_no_torn_file_and_no_record_without_a_file(library_of_scenes):
    folder = library_of_scenes / "default"
    rng = random.Random(3)
    # A fresh process: one in which torch has started threads must not be forked.
    with subprocess.Popen(
        [sys.executable, __file__],
        env=os.environ | {"CLIPKIT_INDEXES": str(folder.parent), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as forker:
        assert forker.stdin and forker.stdout
        for _ in range(4):
            before = len(list(folder.glob("generated/*.png")))
            forker.stdin.write("generate\n")
            forker.stdin.flush()
            process = int(forker.stdout.readline())
            deadline = time.monotonic() + 90
            while len(list(folder.glob("generated/*.png"))) == before and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.4))
            os.kill(process, signal.SIGKILL)
            assert int(forker.stdout.readline()) == -signal.SIGKILL, "it was at work until it was killed"
            with sqlite3.connect(folder / "catalog.db") as db:
                rows = [folder / row[0] for row in db.execute("SELECT path FROM generations")]
            assert rows and all(path.is_file() for path in rows)
            for path in folder.glob("generated/*.png"):
                assert np.asarray(Image.open(path)).shape == (64, 64, 3)
        forker.stdin.close()


def _generate() -> int:
    """Generate 300 pictures in a forked process; print its number, and at its end its exit code, which is returned."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            code = main(["generate", "a whale", "-n", "300", "--steps", "1", "--size", "64"])
        finally:
            os._exit(code)
    print(child, flush=True)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    from clipkit.cli.main import main
    from clipkit.generation import loading, synthesis  # noqa: F401  slow imports, before the forks

    for _ in sys.stdin:
        print(_generate(), flush=True)
