"""`clipkit serve` as a process; what the server does by itself: let go of idle models, and tell clients to wait."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from clipkit.errors import ClipkitError
from clipkit.server.serving import address_of, listen
from clipkit.server.settings import ServerSettings
from server.conftest import running, wait_until


def test_the_command_prints_an_address_that_answers_and_ends_cleanly(library_folder: Path):
    command = [
        sys.executable,
        "-m",
        "clipkit",
        "serve",
        "--indexes",
        str(library_folder.parent),
        "--token",
        "--no-open",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", address)
        token = address.partition("token=")[2]
        wanted = urllib.request.Request(
            address.partition("?")[0] + "api/info", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(wanted, timeout=60) as answer:
            assert answer.status == 200
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert "Traceback" not in err and token not in err


def test_a_missing_library_or_port_is_one_line(clipkit, library_folder):
    output = clipkit("serve", "--name", "nothing")
    assert output.code == 2 and "clipkit index" in output.err and output.err.count("\n") == 1
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        output = clipkit("serve", "--indexes", library_folder.parent, "--port", port)
    assert output.code == 2 and "--port" in output.err and output.err.count("\n") == 1
    output = clipkit("serve", "--indexes", library_folder.parent, "--host", "nowhere.invalid")
    assert output.code == 2 and output.err.count("\n") == 1


def test_without_the_extra_it_says_what_to_install(library_folder, tmp_path):
    code = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('starlette', 'uvicorn') else find(name, *a)\n"
        "from clipkit.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "serve", "--indexes", str(library_folder.parent)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HOME": str(tmp_path)})
    assert done.returncode == 2
    assert "pip install 'clipkit[web]'" in done.stderr and done.stderr.count("\n") == 1


def test_the_next_free_port_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ClipkitError):
            listen("127.0.0.1", port, any_port=False)
        with listen("127.0.0.1", port, any_port=True) as other:
            assert port < other.getsockname()[1] < port + 50


def test_addresses():
    assert address_of(ServerSettings()) == "http://127.0.0.1:8000/"
    assert address_of(ServerSettings(host="::1", token="t")) == "http://[::1]:8000/?token=t"
    assert ServerSettings(host="::1").is_loopback and not ServerSettings(host="0.0.0.0").is_loopback


def test_idle_models_and_children_are_let_go_and_come_back(library_folder, quick, tmp_path):
    with running(library_folder, replace(quick, idle_seconds=0.4, thumbnails=tmp_path)) as server:
        services = server.app.state.services
        first = server.get("/api/search", {"q": "a dog"}).json["hits"]
        assert server.get(first[0]["thumbnail"]).status == 200
        wait_until(lambda: not len(services.library_pool.searchers) and not services.decoders.pids)
        assert server.get("/api/search", {"q": "a dog"}).json["hits"] == first
        assert server.get(first[1]["thumbnail"]).status == 200


def test_more_requests_than_may_wait_are_told_so(library_folder, quick):
    import threading

    with running(library_folder, replace(quick, searches=1, queue=1)) as server:
        server.get("/api/search", {"q": "a dog"})
        held, release = threading.Event(), threading.Event()
        services = server.app.state.services

        def hold() -> None:
            with services.library_pool.library() as library:
                encoder = library.searchers.get(library.catalog, "tiny", "auto").encoder
            with encoder._lock:
                held.set()
                release.wait(60)

        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(60)
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: answers.append(server.get("/api/search", {"q": "a dog"}).status))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: len(answers) == 4)
            refused = server.get("/api/search", {"q": "a dog"})
            assert (refused.status, refused.headers["Retry-After"]) == (429, "2")
            assert server.get("/api/images").status == 200  # other work has its own queue
        finally:
            release.set()
            for thread in (*threads, holder):
                thread.join()
        assert sorted(answers) == [200, 200, 429, 429, 429, 429]
