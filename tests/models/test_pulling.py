"""Downloads from a hub that is a local HTTP server: complete, interrupted, corrupt, refused, and without a hub."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from models.hub_server import COMMIT, Hub

from clipkit.errors import DownloadFailed, ModelNotAvailable
from clipkit.models.hub.cache import hub_cache, snapshot
from clipkit.models.hub.downloading import digest_of
from clipkit.models.hub.locating import ModelFiles, is_here, locate
from clipkit.models.hub.pulling import pull_model
from clipkit.models.reference import ModelRef
from clipkit.models.registry import entry, recommended

RECOMMENDED = recommended().id
REPOSITORY = recommended().hub
WEIGHTS = "open_clip_model.safetensors"
SIGLIP2, XLM = "ViT-B-32-SigLIP2-256/webli", "xlm-roberta-large-ViT-H-14/frozen_laion5b_s13b_b90k"
BYTES = os.urandom(3_000_000)
LONG = 30_000_000
"""Size of a file that huggingface_hub's client downloads in three blocks."""
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
    """Allow the network, use the local hub, and start with an empty cache."""
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # set at import


def pull_error(*arguments) -> str:
    with pytest.raises(ModelNotAvailable) as error:
        pull_model(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def located(model: str) -> ModelFiles:
    return locate(ModelRef.of(model))


def test_a_model_is_pulled_once_into_the_hubs_own_layout(hub, tmp_path):
    from huggingface_hub import try_to_load_from_cache

    assert not is_here(ModelRef.of(RECOMMENDED))
    reported = []
    report = pull_model(progress=reported.append)
    assert report.files == {f"{REPOSITORY}/{WEIGHTS}": len(BYTES)}, "the safetensors and not the pickle"
    assert located(RECOMMENDED).weights.read_bytes() == BYTES
    found = try_to_load_from_cache(REPOSITORY, WEIGHTS, cache_dir=hub_cache())
    assert found and Path(str(found)).samefile(located(RECOMMENDED).weights)
    assert snapshot(REPOSITORY) == hub_cache() / f"models--{REPOSITORY.replace('/', '--')}" / "snapshots" / COMMIT
    assert reported[-1].done == reported[-1].total == 3 and "MB" in reported[-1].stage
    assert hub.sent == len(BYTES)
    pull_model(RECOMMENDED)
    assert hub.sent == len(BYTES), "a complete file is not downloaded again"
    assert not list(tmp_path.rglob("*incomplete*"))


def test_a_download_requests_only_the_files_and_reveals_little_of_the_machine(hub):
    """huggingface_hub's client would request a list of coding agents, and send the one in use and torch's version."""
    pull_model(SIGLIP2)
    assert all("/timm/ViT-B-32-SigLIP2-256/" in path or "/cdn/" in path for _, path, _ in hub.requests), hub.requests
    assert hub.agents and not [agent for agent in hub.agents if "torch/" in agent or "agent/" in agent]


def test_the_tokenizer_is_pulled_as_well(hub):
    files = pull_model(SIGLIP2).files
    assert {name.rpartition("/")[2] for name in files} == {WEIGHTS, *TOKENIZER}
    assert located(SIGLIP2).tokenizer == snapshot("timm/ViT-B-32-SigLIP2-256")


def test_an_interrupted_download_is_resumed(hub):
    hub.repositories[REPOSITORY][WEIGHTS] = content = os.urandom(LONG)
    hub.cut_after = 25_000_000
    message = pull_error()
    assert "503" in message and "to resume" in message and "clipkit models import" in message
    assert not is_here(ModelRef.of(RECOMMENDED))
    (partial,) = hub_cache().rglob("*.clipkit-incomplete")
    received = partial.stat().st_size
    assert 15_000_000 <= received <= 25_000_000, "without the block in transit"
    hub.cut_after, hub.broken, before = None, False, hub.sent
    assert pull_model().files
    assert hub.fetched("/cdn/")[-1][2] == f"bytes={received}-"
    assert hub.sent - before == LONG - received
    assert located(RECOMMENDED).weights.read_bytes() == content


def test_a_killed_pull_is_resumed(hub, monkeypatch):
    # Otherwise a fast machine has finished before it is killed.
    monkeypatch.setattr("clipkit.models.hub.downloading.PROGRESS_INTERVAL_S", -1.0)

    def kill(progress):
        if progress.done >= 1:
            raise KeyboardInterrupt

    hub.repositories[REPOSITORY][WEIGHTS] = content = os.urandom(LONG)
    with pytest.raises(KeyboardInterrupt):
        pull_model(progress=kill)
    (partial,) = hub_cache().rglob("*.clipkit-incomplete")
    received = partial.stat().st_size
    assert 0 < received < len(content)
    pull_model()
    assert hub.fetched("/cdn/")[-1][2] == f"bytes={received}-"
    assert located(RECOMMENDED).weights.read_bytes() == content


@pytest.mark.parametrize(("model", "name"), [(RECOMMENDED, WEIGHTS), (SIGLIP2, "tokenizer.json")])
def test_a_download_with_a_wrong_checksum_is_discarded(hub, model, name):
    """SHA-256 for large files, git's hash for small ones; the size is right in both cases."""
    hub.other_bytes[name] = bytes(len(BYTES)) if name == WEIGHTS else b'{"version": "6.6"}'
    message = pull_error(model)
    assert "checksum" in message and "does not match" in message and name in message
    assert not is_here(ModelRef.of(model)) and not list(hub_cache().rglob("*.clipkit-incomplete"))
    hub.other_bytes.clear()
    pull_model(model)
    assert is_here(ModelRef.of(model))


def test_a_corrupt_file_on_disk_is_downloaded_again(hub):
    pull_model()
    blob = located(RECOMMENDED).weights.resolve()
    blob.write_bytes(BYTES[:-1] + b"?")
    pull_model()
    assert located(RECOMMENDED).weights.read_bytes() == BYTES
    assert digest_of(blob, blob.name) == blob.name


# --- file systems without symlinks, as on Windows ---


def disk_use(folder: Path) -> int:
    """Return the size of the large files in a folder, counting hard links once."""
    found = {(stat.st_dev, stat.st_ino): stat.st_size for path in folder.rglob("*") if (stat := path.lstat()).st_size}
    return sum(size for (_, inode), size in found.items() if size >= len(BYTES))


@pytest.mark.parametrize("file_system", ["hard links", "no links"])
def test_without_symlinks_a_file_is_stored_once(hub, monkeypatch, file_system):
    from huggingface_hub import try_to_load_from_cache

    monkeypatch.setenv("HF_HUB_DISABLE_SYMLINKS", "1")
    if file_system == "no links":

        def refuse(*_, **__):
            raise OSError("not supported")  # as on FAT and exFAT

        monkeypatch.setattr(os, "link", refuse)
    pull_model()
    weights = located(RECOMMENDED).weights
    assert weights.read_bytes() == BYTES and not weights.is_symlink()
    assert disk_use(hub_cache()) == len(BYTES)
    assert try_to_load_from_cache(REPOSITORY, WEIGHTS, cache_dir=hub_cache()) == str(weights)
    pull_model()
    assert hub.sent == len(BYTES), "and is not downloaded again"
    weights.write_bytes(BYTES[:-1] + b"?")
    pull_model()
    assert located(RECOMMENDED).weights.read_bytes() == BYTES, "unless it is corrupt"
    assert disk_use(hub_cache()) == len(BYTES)


@pytest.mark.parametrize("links", ["with symlinks", "without"])
def test_files_that_the_hubs_own_client_downloaded_are_not_downloaded_again(hub, monkeypatch, links):
    """Without symlinks it moves the file into its snapshot and leaves no blob."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_SYMLINKS", links == "without")
    monkeypatch.setenv("HF_HUB_DISABLE_SYMLINKS", "1" if links == "without" else "")
    path = huggingface_hub.hf_hub_download(
        REPOSITORY, WEIGHTS, revision=COMMIT, cache_dir=hub_cache(), endpoint=hub.address
    )
    assert Path(path).is_symlink() == (links != "without")
    before = hub.sent
    assert pull_model().files == {f"{REPOSITORY}/{WEIGHTS}": len(BYTES)}
    assert hub.sent == before and located(RECOMMENDED).weights.read_bytes() == BYTES
    assert disk_use(hub_cache()) == len(BYTES)


def test_a_copy_of_a_blob_is_replaced_by_a_link(hub, monkeypatch):
    """The hub's client copies a file whose blob exists, and with it so did clipkit."""
    pull_model()
    weights = located(RECOMMENDED).weights
    weights.unlink()
    weights.write_bytes(BYTES)
    assert disk_use(hub_cache()) == 2 * len(BYTES)
    pull_model()
    assert disk_use(hub_cache()) == len(BYTES) and hub.sent == len(BYTES)


def test_an_unreachable_hub_is_an_error_of_one_line(hub):
    hub.close()
    message = pull_error()
    assert hub.address in message and "clipkit models import PATH --as" in message and "--model tiny" in message


def test_offline_is_an_error_of_one_line_without_requests(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = pull_error()
    assert "HF_HUB_OFFLINE" in message and "clipkit models import" in message
    assert hub.requests == []


def test_missing_and_private_repositories(hub):
    assert "no model hf-hub:nobody/nothing" in pull_error("hf-hub:nobody/nothing")
    hub.private.add("somebody/secret")
    assert "private" in pull_error("hf-hub:somebody/secret")
    hub.repositories["somebody/else"] = {"model.onnx": b"something else"}
    assert "no open_clip_config.json" in pull_error("hf-hub:somebody/else")
    assert "models list" in pull_error("no-such-model")


def test_a_pickle_is_not_downloaded_unless_allowed(hub):
    message = pull_error(XLM)
    assert "pickle" in message and "--allow-pickle" in message
    assert hub.fetched() == []


def test_a_second_process_reports_the_first(hub):
    from filelock import FileLock

    locks = hub_cache() / ".locks" / f"models--{REPOSITORY.replace('/', '--')}"
    locks.mkdir(parents=True)
    with FileLock(locks / f"{hub.digest(REPOSITORY, WEIGHTS)}.clipkit.lock"):
        assert "another process is downloading" in pull_error()


def test_the_hubs_environment_variables_are_respected(monkeypatch, tmp_path):
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


def test_the_pull_command(hub, clipkit, monkeypatch):
    shown = clipkit("models", "pull")
    assert shown.code == 0 and "checksums match" in shown.out and RECOMMENDED in shown.out
    assert "on disk" in clipkit("models", "show", RECOMMENDED).out
    hub.broken = True
    failed = clipkit("models", "pull", SIGLIP2)
    assert failed.code == 2 and failed.err.count("\n") == 1 and failed.err.startswith("clipkit: ")


TROUBLES = {
    "offline": (RECOMMENDED, "HF_HUB_OFFLINE"),
    "unreachable": (RECOMMENDED, "clipkit models import PATH --as"),
    "server error": (RECOMMENDED, "answered with 503"),
    "interrupted": (RECOMMENDED, "to resume"),
    "corrupt": (RECOMMENDED, "does not match"),
    "private": ("hf-hub:somebody/secret", "private"),
    "no repository": ("hf-hub:nobody/nothing", "no model hf-hub:nobody/nothing"),
    "pickle": (XLM, "--allow-pickle"),
    "unknown": ("no-such-model", "clipkit models list"),
    "another process": (RECOMMENDED, "another process is downloading"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("command", ["pull", "index"])
def test_every_failure_is_one_line_on_stderr_and_exit_code_2(hub, clipkit, monkeypatch, scene_folder, trouble, command):
    """For `clipkit models pull`, and for `clipkit index --yes`, which pulls a missing model."""
    from filelock import FileLock

    model, hint = TROUBLES[trouble]
    hub.broken = trouble == "server error"
    hub.private.add("somebody/secret")
    if trouble == "offline":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        hint = hint if command == "pull" else "clipkit models import PATH --as"
    elif trouble == "unreachable":
        hub.close()
    elif trouble == "interrupted":
        hub.cut_after = 1_000_000
    elif trouble == "corrupt":
        hub.other_bytes[WEIGHTS] = bytes(len(BYTES))
    locks = hub_cache() / ".locks" / f"models--{REPOSITORY.replace('/', '--')}"
    locks.mkdir(parents=True)
    lock = FileLock(locks / f"{hub.digest(REPOSITORY, WEIGHTS)}.clipkit.lock")
    if trouble == "another process":
        lock.acquire()
    index = ("index", scene_folder, "--model", model, "--yes")
    output = clipkit("models", "pull", model) if command == "pull" else clipkit(*index)
    lock.release()
    assert (output.code, output.out) == (2, "")
    assert output.err.startswith("clipkit: ") and output.err.count("\n") == 1 and hint in output.err, output.err
    assert clipkit("info").code == 2, "no library was created"


# --- no model is named ---


def test_a_new_library_never_silently_uses_tiny(hub, clipkit, scene_folder):
    output = clipkit("index", scene_folder)
    assert output.code == 2 and output.err.count("\n") == 1
    assert "`clipkit models pull`" in output.err and "--model tiny" in output.err and "605 MB" in output.err
    assert hub.requests == [], "nothing is downloaded unasked"
    named = clipkit("index", scene_folder, "--model", SIGLIP2)
    assert named.code == 2 and f"`clipkit models pull {SIGLIP2}`" in named.err and hub.requests == []
    assert clipkit("info").code == 2, "no library was created"


def test_a_new_library_never_silently_uses_tiny_offline(hub, clipkit, scene_folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for arguments in ((), ("--yes",)):
        output = clipkit("index", scene_folder, *arguments)
        assert output.code == 2 and output.err.count("\n") == 1
        assert "`clipkit models pull`" in output.err and "--model tiny" in output.err
    assert hub.requests == [] and clipkit("info").code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
@pytest.mark.parametrize("answer", ["n", "y"])
def test_on_a_terminal_the_user_is_asked_and_told_the_size(hub, scene_folder, tmp_path, answer):
    import pty

    hub.broken = True  # so that the answer "y" shows as a request
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
            pass  # Linux reports the closed terminal like this

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait(300) == 2
    reader.join(10)
    os.close(ours)
    text = shown.decode()
    assert f"{RECOMMENDED}, is not on this machine. Download it from {hub.address} (605 MB)?" in text
    assert bool(hub.requests) == (answer == "y")
    assert ("answered with 503" if answer == "y" else "--model tiny") in text
