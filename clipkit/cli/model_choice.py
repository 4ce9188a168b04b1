"""Which model a new library gets, and the question whether to download it; nothing is downloaded unasked."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from clipkit.cli.progress import progress_bar

if TYPE_CHECKING:
    from clipkit.models.reference import ModelRef


def ensure_model(model: str | None, *, yes: bool) -> str:
    """Return the id of a model that is on this disk: `model`, or the recommended one.

    A missing one is downloaded if `yes`, or if the user at the terminal agrees; otherwise this raises
    ModelNotAvailable, which says what to do.
    """
    from clipkit.models.hub.cache import is_offline
    from clipkit.models.hub.locating import default_model, locate, on_disk
    from clipkit.models.hub.pulling import pull_model
    from clipkit.models.reference import ModelRef
    from clipkit.models.registry import recommended

    chosen = ModelRef.resolve(model or recommended().id)
    if on_disk(chosen):
        return chosen.id
    can_download = not is_offline() and not chosen.folder
    if not (can_download and (yes or _user_agrees(chosen, named=bool(model)))):
        return locate(chosen).model if model else default_model().id  # raises, with the message that fits
    with progress_bar() as progress:
        return pull_model(chosen.id, progress=progress).model


def _user_agrees(model: ModelRef, *, named: bool) -> bool:
    """Ask at the terminal whether to download a model; False if there is no terminal."""
    from clipkit.models.hub.cache import endpoint
    from clipkit.models.hub.pulling import download_size

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    what = f"The model {model.id}" if named else f"The recommended model for photographs, {model.id},"
    size = download_size(model)
    question = f"{what} is not on this machine. Download it from {endpoint()}{f' ({size})' if size else ''}?"
    return click.confirm(question, err=True)
