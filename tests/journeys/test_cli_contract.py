"""The contract of the command line: exit codes, one-line errors, formats, and a quick start."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest

HEAVY = {
    "torch",
    "open_clip",
    "diffusers",
    "faiss",
    "onnxruntime",
    "transformers",
    "pyarrow",
    "numpy",
    "sqlite3",
    "sqlite_utils",
    "filelock",
    "PIL",
    "rich",
}
CALLS = [
    "import clipkit",
    *(f"from clipkit.cli.main import main; main(['{option}'])" for option in ("--help", "--version")),
]


@pytest.mark.parametrize("code", CALLS)
def test_import_and_help_load_nothing_heavy(code):
    script = f"import sys; {code}; print('LOADED', sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_a_command_imports_its_own_module_only():
    code = "import sys; from clipkit.cli.main import main; main(['search', '--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1]
    assert "'clipkit.cli.search'" in loaded
    assert [name for name in ("index", "demo", "models", "generate") if f"'clipkit.cli.{name}'" in loaded] == []


def test_an_unknown_command_gets_the_nearest_names(clipkit):
    assert "search" in clipkit("serach", "a dog").err.replace("serach", "")


SECTIONS = {
    "Library": ["index", "info", "failures", "check", "remove", "export"],
    "Search": ["search", "explain", "serve", "demo"],
    "Pictures": ["generate", "vary", "blend", "restyle", "edit", "extend", "upscale", "generated", "verify"],
    "Models": ["models", "decoders", "bridge"],
}


def test_help_lists_every_command_under_a_heading(clipkit):
    from clipkit.cli.main import commands

    listed: dict[str, list[str]] = {}
    for line in clipkit("--help").out.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            names = listed.setdefault(line[:-1], [])
        elif line.startswith("  ") and not line.startswith("   ") and listed:
            names.append(line.split()[0])
    del listed["Options"]
    assert listed == SECTIONS
    assert sorted(name for names in listed.values() for name in names) == commands.list_commands(
        click.Context(commands)
    )


@pytest.mark.parametrize("group", [(), ("models",), ("decoders",), ("bridge",), ("generated",)], ids=str)
def test_the_short_help_of_every_command_fits_on_its_line(clipkit, monkeypatch, group):
    monkeypatch.setenv("COLUMNS", "80")
    usage, *lines = clipkit(*group, "--help").out.splitlines()
    assert usage.startswith("Usage: ")
    assert [line for line in lines if line.endswith("...") or len(line) > 80] == []


BAD = {
    "no library": (["search", "a dog"], "clipkit index"),
    "no query": (["search"], "give some words"),
    "unknown option": (["search", "--nope"], "--nope"),
    "unknown command": (["serach", "a dog"], "serach"),
    "missing folder": (["index", "/nowhere/at/all"], "/nowhere/at/all"),
    "unknown model": (["index", ".", "--model", "no-such-model"], "models list"),
    "unknown tag": (["index", ".", "--model", "ViT-B-32/no-such-tag"], "models list"),
    "bad name": (["info", "--name", "../x"], "../x"),
    "nothing to index": (["index"], "name some"),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_errors_are_one_line_on_stderr_and_exit_with_2(clipkit, case):
    arguments, hint = BAD[case]
    output = clipkit(*arguments)
    assert output.code == 2 and output.out == ""
    lines = output.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("clipkit: ") and hint in lines[0]
    assert "Traceback" not in output.err


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_missing_device_is_one_line(clipkit, scene_folder, tmp_path, device):
    import torch

    if {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[device]:
        pytest.skip("this machine has one")
    output_file = tmp_path / "dog.png"
    for arguments in (
        ("index", scene_folder / "2023", "--model", "tiny", "--device", device),
        ("generate", "a dog", "--decoder", "tiny", "-o", output_file, "--device", device),
    ):
        output = clipkit(*arguments)
        assert output.code == 2 and output.err.count("\n") == 1 and f"no device '{device}'" in output.err, output.err


QUERIES = {
    "weight": (["--weight", "-1"], "above 0"),
    "too many weights": (["--weight", "1", "--weight", "2"], "weights"),
    "date": (["--after", "yesterday"], "not a date"),
    "place": (["--near", "here"], "LATITUDE"),
    "where": (["--where", "colour = 1"], "columns are"),
    "writing where": (["--where", "1); DELETE FROM images; --"], "--where"),
    "no such picture": (["--like", "/nowhere.jpg"], "/nowhere.jpg"),
    "no picture": (["--like", __file__], "not a picture"),
    "private address": (["--like", "http://127.0.0.1:9/a.jpg"], "127.0.0.1"),
    "two formats": (["--json", "--csv"], "choose one"),
    "bad sheet": (["--contact-sheet", "/nowhere/hits.jpg"], "contact sheet"),
}


def test_bad_queries_are_one_line(clipkit, scene_library):
    for case, (arguments, hint) in QUERIES.items():
        output = clipkit("search", "a dog", *arguments)
        assert (output.code, output.out) == (2, ""), case
        assert output.err.count("\n") == 1 and hint in output.err, (case, output.err)


def test_output_for_pipes(clipkit, scene_library):
    query = ("search", "a cat on the beach", "-k", "4", "--min-confidence", "0")
    paths = clipkit(*query, "--paths").out.splitlines()
    assert len(paths) == 4 and all(Path(path).is_file() for path in paths)
    assert clipkit(*query, "-0").out == "".join(f"{path}\0" for path in paths)
    rows = clipkit(*query, "--csv").out.splitlines()
    assert rows[0] == "rank,path,score,confidence,matched,id" and len(rows) == 5
    assert clipkit(*query).out.count("\n") == 4
    nothing = clipkit("search", "a cat on the beach", "--min-confidence", "1", "--paths")
    assert (nothing.code, nothing.out) == (1, "")


def test_upkeep_of_a_library(clipkit, scene_library, scene_folder, tmp_path):
    info = json.loads(clipkit("info", "--json").out)
    assert (info["images"], info["models"]) == (120, {"tiny": 120})
    assert "tiny: 120 of 120 pictures (100%)" in clipkit("info").out
    assert clipkit("check").code == 0
    index_file = next((tmp_path / "indexes/default/vectors/tiny").glob("index-*.faiss"))
    expected = clipkit("search", "a robot", "--json").out
    index_file.write_bytes(index_file.read_bytes()[:1000])
    torn = clipkit("search", "a robot", "--json")
    assert [h["path"] for h in json.loads(torn.out)["hits"]] == [h["path"] for h in json.loads(expected)["hits"]]
    assert "check --repair" in json.loads(torn.out)["notes"][0]
    assert clipkit("check").code == 2
    repaired = clipkit("check", "--repair")
    assert repaired.code == 0 and "repaired" in repaired.out and clipkit("check").code == 0
    assert json.loads(clipkit("search", "a robot", "--json").out)["notes"] == json.loads(expected)["notes"]
    assert "pictures taken out" in clipkit("remove", scene_folder / "2024").out
    left = json.loads(clipkit("info", "--json").out)["images"]
    assert 0 < left < 120
    assert clipkit("remove", "--orphans").out.startswith(f"{120 - left} embeddings")
    assert clipkit("remove", "--library", "--yes").code == 0
    assert clipkit("info").code == 2 and len(list(scene_folder.rglob("*.jpg"))) == 120


def test_export_writes_what_clip_retrieval_reads(clipkit, scene_library, scene_folder, tmp_path):
    import pyarrow.parquet

    report = json.loads(clipkit("export", tmp_path / "out", "--part-size", "50", "--json").out)
    assert (report["vectors"], report["parts"]) == (120, 3)
    vectors = np.concatenate([np.load(tmp_path / f"out/img_emb/img_emb_{i}.npy") for i in range(3)])
    tables = [pyarrow.parquet.read_table(tmp_path / f"out/metadata/metadata_{i}.parquet") for i in range(3)]
    paths = [path for table in tables for path in table["image_path"].to_pylist()]
    assert vectors.shape == (120, 256) and vectors.dtype == np.float16
    assert np.allclose(np.linalg.norm(vectors.astype("f4"), axis=1), 1, atol=1e-2)
    assert sorted(paths) == sorted(map(str, scene_folder.rglob("*.jpg")))
    hit = json.loads(clipkit("search", "--like", paths[7], "--json", "-k", "1").out)["hits"][0]
    assert hit["path"] == paths[7]
    assert clipkit("export", tmp_path / "out").code == 2


def test_models_list(clipkit):
    rows = json.loads(clipkit("models", "list", "--json").out)
    assert rows[0]["id"] == "tiny" and all(row["licence"] for row in rows)
    assert rows[0]["on_disk"] and not rows[1]["on_disk"]
    assert all(row["library"] is None for row in rows), "there is no library yet"
    shown = clipkit("models", "list").out
    assert "* tiny" in shown and "(recommended)" in shown and "605 MB" in shown
    one = json.loads(clipkit("models", "show", "ViT-L-14/openai", "--json").out)
    assert (one["dimension"], one["on_disk"], one["coco_text_to_image_r1"]) == (768, False, 36.5)
    unknown = clipkit("models", "show", "nothing")
    assert unknown.code == 2 and unknown.err.count("\n") == 1 and "models list" in unknown.err


def test_contact_sheet(clipkit, scene_library, tmp_path):
    from PIL import Image

    assert clipkit("search", "a dog", "--contact-sheet", tmp_path / "hits.jpg").code in (0, 1)
    with Image.open(tmp_path / "hits.jpg") as sheet:
        assert sheet.format == "JPEG" and min(sheet.size) > 400


def test_only_one_process_indexes_at_a_time(clipkit, scene_library, scene_folder, tmp_path):
    from clipkit import Library

    with Library.open(tmp_path / "indexes/default") as library, library.catalog.writing():
        busy = clipkit("index", "--model", "tiny", scene_folder)
        assert busy.code == 2 and "another process is writing" in busy.err
        assert clipkit("search", "a dog", "--json").code in (0, 1), "searching needs no lock"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT")
def test_ctrl_c_stops_cleanly_and_the_next_run_resumes(clipkit, scene_folder, tmp_path):
    from clipkit.samples.photos import write_samples

    write_samples(tmp_path / "many", 500, size=32)
    command = [
        sys.executable,
        "-m",
        "clipkit",
        "index",
        str(tmp_path / "many"),
        "--model",
        "tiny",
        "--indexes",
        str(tmp_path / "i"),
    ]
    process = subprocess.Popen(
        command + ["--batch-size", "1"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Background jobs of a shell script ignore SIGINT, and so would the child process.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        info = clipkit("info", "--indexes", tmp_path / "i", "--json")
        if info.code == 0 and json.loads(info.out)["images"] >= 2:
            break
        time.sleep(0.03)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("clipkit: stopped") and "Traceback" not in err
    kept = json.loads(clipkit("info", "--indexes", tmp_path / "i", "--json").out)["images"]
    report = json.loads(
        clipkit("index", "--model", "tiny", tmp_path / "many", "--indexes", tmp_path / "i", "--json").out
    )
    assert 0 < kept < 500 and (report["unchanged"], report["added"]) == (kept, 500 - kept)
