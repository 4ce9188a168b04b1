"""Debian's Chromium, driven by Playwright, on the page of a real server over a real library."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.conftest import Server, running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = next(Path(__file__).parent.glob("axe-core-*.min.js"))
WAIT_MS = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return a browser. A module's own, as Playwright's event loop would be in the way of other tests' loops."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine: `apt-get install chromium`")
    playwright.expect.set_options(timeout=WAIT_MS)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Return a function that opens an address of the server in a fresh context.

    At the end no page may have logged an error, broken its Content-Security-Policy, or asked another host.
    """
    contexts, complaints = [], []

    def open_(path: str = "/", *, width: int = 1200, height: int = 800, server: Server = server, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((server.url, "blob:", "data:")) else complaints.append(request.url)
            ),
        )
        page.goto(server.url + path)
        return page

    open_.complaints = complaints
    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def own_server(library_folder: Path, quick: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server over a copy of the library, for tests that generate."""
    folder = tmp_path_factory.mktemp("own")
    copy = folder / "indexes" / "default"
    shutil.copytree(library_folder, copy)
    with running(copy, replace(quick, thumbnails=folder / "thumbnails")) as server:
        yield server


def violations(page: Any, part: str = "html") -> list[str]:
    """Return what axe-core finds against WCAG 2.2 A and AA and its best practices, in one part of the page if told so.

    The rest of the page need not be searched again while a dialog or a menu is open.
    """
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("(part) => axe.run(part, {resultTypes: ['violations']})", part)["violations"]
    return [
        f"{one['id']}: {node['html'][:160]} {(node.get('failureSummary') or '')[:300]}"
        for one in found
        for node in one["nodes"]
    ]


def parameters(page: Any) -> dict[str, list[str]]:
    """Return the state in a page's address."""
    from urllib.parse import parse_qs, urlsplit

    return parse_qs(urlsplit(page.url).query)
