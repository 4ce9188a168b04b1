"""`clipkit serve`: the page and the HTTP API."""

from __future__ import annotations

import importlib.util
import secrets
from pathlib import Path

import click

from clipkit.cli.options import device_option, library_options, open_library
from clipkit.cli.printing import notify, say
from clipkit.errors import ClipkitError

_NEEDED = ("starlette", "uvicorn", "jinja2", "python_multipart")


@click.command()
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Others than this machine's own need the token in the printed address.",
)
@click.option("--port", type=click.IntRange(0, 65535), help="Port. [default: 8000, or the next free one]")
@click.option(
    "--token",
    is_flag=False,
    flag_value="",
    envvar="CLIPKIT_TOKEN",
    metavar="[TEXT]",
    help="Let in only who has this token; without TEXT, a random one. [default: random, unless --host is this machine; "
    "$CLIPKIT_TOKEN]",
)
@click.option(
    "--allow-host", multiple=True, metavar="NAME", help="A further name that the server answers to; repeatable."
)
@click.option(
    "--open/--no-open", "open_page", default=None, help="Open the page in the browser. [default: on a terminal]"
)
@click.option(
    "--idle",
    type=click.FloatRange(0.01),
    default=15.0,
    show_default=True,
    metavar="MINUTES",
    help="Free the memory of models that nobody used for so long.",
)
@device_option
@library_options
def serve(
    host: str,
    port: int | None,
    token: str | None,
    allow_host: tuple[str, ...],
    open_page: bool | None,
    idle: float,
    device: str,
    library_path: Path,
) -> int:
    """Open a library in the browser, and serve it to programs.

    Prints the address of the page; /openapi.json there describes the API. Stop it with Ctrl-C.
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        packages = ", ".join(missing).replace("_", "-")
        raise ClipkitError(f"`clipkit serve` needs {packages}: install them with `pip install 'clipkit[web]'`")
    import sys

    from clipkit.server.serving import serve as run
    from clipkit.server.settings import ServerSettings

    open_library(library_path).close()  # says how to create it, before anything listens
    settings = ServerSettings(
        host=host,
        port=8000 if port is None else port,
        token=secrets.token_urlsafe(24) if token == "" else token,
        allowed_hosts=allow_host,
        device=device,
        idle_seconds=60 * idle,
    )

    def ready(address: str) -> None:
        say(address)
        notify(f"serving library {library_path.name!r}; Ctrl-C stops")
        if open_page or (open_page is None and sys.stdout.isatty()):
            click.launch(address)

    run(library_path, settings, any_port=port is None, ready=ready)
    return 0
