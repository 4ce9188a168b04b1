"""Downloads from a hub that is a real server on this machine: whole, broken off, wrong, refused, and no hub at all."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from spaces.hub_server import COMMIT, Hub

from clipkit.errors import DownloadFailed, ModelNotAvailable
from clipkit.models.hub.cache import hub_cache, snapshot
from clipkit.models.hub.downloading import digest_of
from clipkit.models.hub.locating import locate, on_disk
from clipkit.models.hub.pulling import pull_model
from clipkit.models.registry import entry, recommended

RECOMMENDED = recommended().id
REPOSITORY = recommended().hub
WEIGHTS = "open_clip_model.safetensors"
SIGLIP2, XLM = "ViT-B-32-SigLIP2-256/webli", "xlm-roberta-large-ViT-H-14/frozen_laion5b_s13b_b90k"
BYTES = os.urandom(3_000_000)
LONG = 30_000_000
"""Bytes of a file that takes huggingface_hub's client three blocks."""
TOKENIZER = {"tokenizer.json": b'{"version": "1.0"}', "tokenizer_config.json": b"{}"}


@pytest.fixture
def hub():
    xlm = entry(XLM)
    assert xlm
    server = Hub(
        {
            REPOSITORY: {WEIGHTS: BYTES, "open_clip_pytorch_model.bin": b"a pickle", "README.md": b"# A card"},
            "timm/ViT-B-32-SigLIP2-256": {WEIGHTS: BYTES, **TOKENIZER, "open_clip_config.json": b"{}"},
            xlm.hub: {"open_clip_pytorch_model.bin": BYTES},
            "xlm-roberta-large": {**TOKENIZER, "config.json": b"{}", "model.safetensors": BYTES},
        }
    )
    yield server
    server.close()


@pytest.fixture(autouse=True)
def online(hub, monkeypatch, tmp_path):
    """The network is allowed, the hub is ours, and its cache is empty."""
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # read when it was imported


def pulled_in_vain(*arguments) -> str:
    with pytest.raises(ModelNotAvailable) as error:
        pull_model(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_model_is_pulled_once_into_the_hubs_own_layout(hub, tmp_path):
    from huggingface_hub import try_to_load_from_cache

    assert not on_disk(RECOMMENDED)
    told = []
    report = pull_model(progress=told.append)
    assert report.files == {f"{REPOSITORY}/{WEIGHTS}": len(BYTES)}, "the safetensors, not the pickle beside it"
    assert locate(RECOMMENDED).weights.read_bytes() == BYTES
    found = try_to_load_from_cache(REPOSITORY, WEIGHTS, cache_dir=hub_cache())
    assert found and Path(str(found)).samefile(locate(RECOMMENDED).weights)
    assert snapshot(REPOSITORY) == hub_cache() / f"models--{REPOSITORY.replace('/', '--')}" / "snapshots" / COMMIT
    assert told[-1].done == told[-1].total == 3 and "MB" in told[-1].stage
    assert hub.sent == len(BYTES)
    pull_model(RECOMMENDED)
    assert hub.sent == len(BYTES), "what is there is not fetched again"
    assert not list(tmp_path.rglob("*incomplete*"))


def test_a_download_asks_for_the_files_and_says_little_of_the_machine(hub):
    """huggingface_hub's client would ask for a list of coding agents, and name the one that runs it, and torch."""
    pull_model(SIGLIP2)
    assert all("/timm/ViT-B-32-SigLIP2-256/" in path or "/cdn/" in path for _, path, _ in hub.requests), hub.requests
    assert hub.agents and not [agent for agent in hub.agents if "torch/" in agent or "agent/" in agent]


def test_tokenizer_and_text_model_come_along(hub):
    files = pull_model(SIGLIP2).files
    assert {name.rpartition("/")[2] for name in files} == {WEIGHTS, *TOKENIZER}
    assert locate(SIGLIP2).tokenizer == snapshot("timm/ViT-B-32-SigLIP2-256")


def test_a_download_that_breaks_off_goes_on_where_it_was(hub):
    hub.repositories[REPOSITORY][WEIGHTS] = content = os.urandom(LONG)
    hub.cut_after = 25_000_000
    message = pulled_in_vain()
    assert "503" in message and "what has come is kept" in message and "clipkit models import" in message
    assert not on_disk(RECOMMENDED)
    (unfinished,) = hub_cache().rglob("*.clipkit-incomplete")
    there = unfinished.stat().st_size
    assert 15_000_000 <= there <= 25_000_000, "but for the block that was on its way"
    hub.cut_after, hub.broken, before = None, False, hub.sent
    assert pull_model().files
    assert hub.fetched("/cdn/")[-1][2] == f"bytes={there}-"
    assert hub.sent - before == LONG - there
    assert locate(RECOMMENDED).weights.read_bytes() == content


def test_a_pull_that_is_killed_goes_on_where_it_was(hub, monkeypatch):
    monkeypatch.setattr(
        "clipkit.models.hub.downloading.SHOWN_EVERY_S", -1.0
    )  # or a fast machine is done before it is killed

    def kill(progress):
        if progress.done >= 1:
            raise KeyboardInterrupt

    hub.repositories[REPOSITORY][WEIGHTS] = content = os.urandom(LONG)
    with pytest.raises(KeyboardInterrupt):
        pull_model(progress=kill)
    (unfinished,) = hub_cache().rglob("*.clipkit-incomplete")
    there = unfinished.stat().st_size
    assert 0 < there < len(content)
    pull_model()
    assert hub.fetched("/cdn/")[-1][2] == f"bytes={there}-"
    assert locate(RECOMMENDED).weights.read_bytes() == content


@pytest.mark.parametrize(("space", "name"), [(RECOMMENDED, WEIGHTS), (SIGLIP2, "tokenizer.json")])
def test_other_bytes_than_promised_are_thrown_away(hub, space, name):
    """Large files by SHA-256, small ones by git's hash; the length is right in both cases."""
    hub.other_bytes[name] = bytes(len(BYTES)) if name == WEIGHTS else b'{"version": "6.6"}'
    message = pulled_in_vain(space)
    assert "hash is wrong" in message and name in message
    assert not on_disk(space) and not list(hub_cache().rglob("*.clipkit-incomplete"))
    hub.other_bytes.clear()
    pull_model(space)
    assert on_disk(space)


def test_what_rotted_on_the_disk_is_fetched_again(hub):
    pull_model()
    blob = locate(RECOMMENDED).weights.resolve()
    blob.write_bytes(BYTES[:-1] + b"?")
    pull_model()
    assert locate(RECOMMENDED).weights.read_bytes() == BYTES
    assert digest_of(blob, blob.name) == blob.name


# --- disks without symbolic links, as on Windows ---


def disk_use(folder: Path) -> int:
    """Bytes of the files below a folder, each counted once."""
    found = {(stat.st_dev, stat.st_ino): stat.st_size for path in folder.rglob("*") if (stat := path.lstat()).st_size}
    return sum(size for (_, inode), size in found.items() if size >= len(BYTES))


@pytest.mark.parametrize("disk", ["hard links", "no links"])
def test_without_symbolic_links_a_file_takes_its_room_once(hub, monkeypatch, disk):
    from huggingface_hub import try_to_load_from_cache

    monkeypatch.setenv("HF_HUB_DISABLE_SYMLINKS", "1")
    if disk == "no links":

        def refuse(*_, **__):
            raise OSError("this file system has none")  # as FAT and exFAT do

        monkeypatch.setattr(os, "link", refuse)
    pull_model()
    weights = locate(RECOMMENDED).weights
    assert weights.read_bytes() == BYTES and not weights.is_symlink()
    assert disk_use(hub_cache()) == len(BYTES)
    assert try_to_load_from_cache(REPOSITORY, WEIGHTS, cache_dir=hub_cache()) == str(weights)
    pull_model()
    assert hub.sent == len(BYTES), "and is not fetched again"
    weights.write_bytes(BYTES[:-1] + b"?")
    pull_model()
    assert locate(RECOMMENDED).weights.read_bytes() == BYTES, "unless it rotted"
    assert disk_use(hub_cache()) == len(BYTES)


@pytest.mark.parametrize("links", ["with symbolic links", "without"])
def test_what_the_hubs_own_client_has_downloaded_is_not_fetched_again(hub, monkeypatch, links):
    """Without links it moves the file into its snapshot, and leaves no blob."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_SYMLINKS", links == "without")
    monkeypatch.setenv("HF_HUB_DISABLE_SYMLINKS", "1" if links == "without" else "")
    path = huggingface_hub.hf_hub_download(
        REPOSITORY, WEIGHTS, revision=COMMIT, cache_dir=hub_cache(), endpoint=hub.address
    )  # fmt: skip
    assert Path(path).is_symlink() == (links != "without")
    before = hub.sent
    assert pull_model().files == {f"{REPOSITORY}/{WEIGHTS}": len(BYTES)}
    assert hub.sent == before and locate(RECOMMENDED).weights.read_bytes() == BYTES
    assert disk_use(hub_cache()) == len(BYTES)


def test_a_copy_beside_its_blob_gives_its_room_back(hub, monkeypatch):
    """The hub's client copies a file that it finds as a blob, and so did clipkit by it."""
    pull_model()
    weights = locate(RECOMMENDED).weights
    weights.unlink()
    weights.write_bytes(BYTES)
    assert disk_use(hub_cache()) == 2 * len(BYTES)
    pull_model()
    assert disk_use(hub_cache()) == len(BYTES) and hub.sent == len(BYTES)


def test_a_dead_hub_is_one_line(hub):
    hub.close()
    message = pulled_in_vain()
    assert hub.address in message and "clipkit models import PATH --as" in message and "--model tiny" in message


def test_offline_is_one_line_and_asks_nobody(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = pulled_in_vain()
    assert "HF_HUB_OFFLINE" in message and "clipkit models import" in message
    assert hub.requests == []


def test_models_that_are_not_there_or_not_for_all(hub):
    assert "no model hf-hub:nobody/nothing" in pulled_in_vain("hf-hub:nobody/nothing")
    hub.private.add("somebody/secret")
    assert "private" in pulled_in_vain("hf-hub:somebody/secret")
    hub.repositories["somebody/else"] = {"model.onnx": b"something else"}
    assert "no open_clip_config.json" in pulled_in_vain("hf-hub:somebody/else")
    assert "models list" in pulled_in_vain("no-such-model")


def test_a_pickle_is_not_even_downloaded_unless_it_is_allowed(hub):
    message = pulled_in_vain(XLM)
    assert "pickle" in message and "--allow-pickle" in message
    assert hub.fetched() == []


def test_a_second_process_says_that_one_is_at_work(hub):
    from filelock import FileLock

    locks = hub_cache() / ".locks" / f"models--{REPOSITORY.replace('/', '--')}"
    locks.mkdir(parents=True)
    with FileLock(locks / f"{hub.digest(REPOSITORY, WEIGHTS)}.clipkit.lock"):
        assert "another process is downloading" in pulled_in_vain()


def test_the_hub_goes_by_its_variables(monkeypatch, tmp_path):
    for values, expected in (
        ({"HF_HOME": tmp_path / "a"}, tmp_path / "a" / "hub"),
        ({"HF_HUB_CACHE": tmp_path / "b"}, tmp_path / "b"),
    ):
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))
        assert hub_cache() == expected
    with pytest.raises(DownloadFailed):
        monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
        pull_model()


def test_the_command(hub, clipkit, monkeypatch):
    shown = clipkit("models", "pull")
    assert shown.code == 0 and "checksums match" in shown.out and RECOMMENDED in shown.out
    assert "on disk" in clipkit("models", "show", RECOMMENDED).out
    hub.broken = True
    failed = clipkit("models", "pull", SIGLIP2)
    assert failed.code == 2 and failed.err.count("\n") == 1 and failed.err.startswith("clipkit: ")


TROUBLES = {
    "offline": (RECOMMENDED, "HF_HUB_OFFLINE"),
    "dead": (RECOMMENDED, "clipkit models import PATH --as"),
    "broken": (RECOMMENDED, "answers with 503"),
    "broken off": (RECOMMENDED, "what has come is kept"),
    "other bytes": (RECOMMENDED, "hash is wrong"),
    "private": ("hf-hub:somebody/secret", "private"),
    "no repository": ("hf-hub:nobody/nothing", "no model hf-hub:nobody/nothing"),
    "pickle": (XLM, "--allow-pickle"),
    "unknown": ("no-such-model", "clipkit models list"),
    "another process": (RECOMMENDED, "another process is downloading"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("command", ["pull", "index"])
def test_every_failure_is_one_line_on_stderr_and_exit_code_2(hub, clipkit, monkeypatch, scene_folder, trouble, command):
    """Of `clipkit models pull`, and of `clipkit index --yes`, which pulls what it lacks."""
    from filelock import FileLock

    space, hint = TROUBLES[trouble]
    hub.broken = trouble == "broken"
    hub.private.add("somebody/secret")
    if trouble == "offline":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        hint = hint if command == "pull" else "clipkit models import PATH --as"
    elif trouble == "dead":
        hub.close()
    elif trouble == "broken off":
        hub.cut_after = 1_000_000
    elif trouble == "other bytes":
        hub.other_bytes[WEIGHTS] = bytes(len(BYTES))
    locks = hub_cache() / ".locks" / f"models--{REPOSITORY.replace('/', '--')}"
    locks.mkdir(parents=True)
    lock = FileLock(locks / f"{hub.digest(REPOSITORY, WEIGHTS)}.clipkit.lock")
    if trouble == "another process":
        lock.acquire()
    ask = ("models", "pull", space) if command == "pull" else ("index", scene_folder, "--model", space, "--yes")
    output = clipkit(*ask)
    lock.release()
    assert (output.code, output.out) == (2, "")
    assert output.err.startswith("clipkit: ") and output.err.count("\n") == 1 and hint in output.err, output.err
    assert clipkit("info").code == 2, "no library was made"


# --- a model that nobody chose ---


def test_a_new_library_never_gets_tiny_in_silence(hub, clipkit, scene_folder):
    output = clipkit("index", scene_folder)
    assert output.code == 2 and output.err.count("\n") == 1
    assert "`clipkit models pull`" in output.err and "--model tiny" in output.err and "605 MB" in output.err
    assert hub.requests == [], "and nothing is fetched that nobody asked for"
    named = clipkit("index", scene_folder, "--model", SIGLIP2)
    assert named.code == 2 and f"`clipkit models pull {SIGLIP2}`" in named.err and hub.requests == []
    assert clipkit("info").code == 2, "no library was made"


def test_nor_does_one_that_is_offline(hub, clipkit, scene_folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for arguments in ((), ("--yes",)):
        output = clipkit("index", scene_folder, *arguments)
        assert output.code == 2 and output.err.count("\n") == 1
        assert "`clipkit models pull`" in output.err and "--model tiny" in output.err
    assert hub.requests == [] and clipkit("info").code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="there are no terminals to open")
@pytest.mark.parametrize("answer", ["n", "y"])
def test_on_a_terminal_it_asks_and_says_the_size(hub, scene_folder, tmp_path, answer):
    import pty

    hub.broken = True  # the answer "y" is seen to ask the hub
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "500", "TERM": "dumb"}
    command = [sys.executable, "-m", "clipkit", "index", str(scene_folder), "--indexes", str(tmp_path / "indexes")]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    shown = bytearray()

    def read() -> None:
        try:
            while block := os.read(ours, 4096):
                shown.extend(block)
        except OSError:
            pass  # how Linux says that the other side has gone

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait(300) == 2
    reader.join(10)
    os.close(ours)
    text = shown.decode()
    assert f"{RECOMMENDED}, is not on this machine. Download it from {hub.address} (605 MB)?" in text
    assert bool(hub.requests) == (answer == "y")
    assert ("answers with 503" if answer == "y" else "--model tiny") in text
