"""Which model a command takes, and whether it may be downloaded: asked on a terminal, never done in silence."""

from __future__ import annotations

import sys

import click

from clipkit.cli.progress import progress_bar
from clipkit.models.hub.cache import endpoint, is_offline


def ensure_model(model: str | None, *, yes: bool) -> str:
    """The id of the model, once it is on this disk; the recommended one if none is named.

    Downloads it if `yes` was given, or if the person at the terminal agrees. Raises ModelNotAvailable with what to do
    otherwise.
    """
    from clipkit.models.hub.locating import default_model, locate, on_disk
    from clipkit.models.hub.pulling import download_size, pull_model
    from clipkit.models.reference import ModelRef
    from clipkit.models.registry import recommended

    ref = ModelRef.resolve(model or recommended().id)
    if on_disk(ref):
        return ref.id
    can_ask = sys.stdin.isatty() and sys.stderr.isatty()
    if is_offline() or ref.folder or not (yes or (can_ask and _asked(model, ref.id, download_size(ref)))):
        return locate(ref).model if model else default_model().id  # raises, with the line that fits
    with progress_bar() as progress:
        return pull_model(ref.id, progress=progress).model


def _asked(model: str | None, space: str, size: str) -> bool:
    what = f"The model {space}" if model else f"The recommended model for photographs, {space},"
    return click.confirm(
        f"{what} is not on this machine. Download it from {endpoint()}{f' ({size})' if size else ''}?", err=True
    )
