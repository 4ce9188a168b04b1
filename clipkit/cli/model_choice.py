"""Which model a new library gets, and the question whether to download it; nothing is downloaded unasked."""

from __future__ import annotations

import sys

import click

from clipkit.cli.progress import progress_bar


def ensure_model(model: str | None, *, yes: bool) -> str:
    """Return the id of a model that is on this disk: `model`, or the recommended one.

    A missing one is downloaded if `yes`, or if the user at the terminal agrees; otherwise this raises
    ModelNotAvailable, which says what to do.
    """
    from clipkit.models.hub.cache import is_offline
    from clipkit.models.hub.locating import default_space, locate, on_disk
    from clipkit.models.hub.pulling import pull_model
    from clipkit.models.registry import canonical_id, checkpoint_folder, recommended

    chosen = canonical_id(model) if model else recommended().id
    if on_disk(chosen):
        return chosen
    can_download = not is_offline() and not checkpoint_folder(chosen)
    if not (can_download and (yes or _user_agrees(chosen, named=bool(model)))):
        return locate(chosen).space if model else default_space()  # raises, with the message that fits
    with progress_bar() as progress:
        return pull_model(chosen, progress=progress).space


def _user_agrees(model: str, *, named: bool) -> bool:
    """Ask at the terminal whether to download a model; False if there is no terminal."""
    from clipkit.models.hub.cache import endpoint
    from clipkit.models.hub.pulling import download_size

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    what = f"The model {model}" if named else f"The recommended model for photographs, {model},"
    size = download_size(model)
    question = f"{what} is not on this machine. Download it from {endpoint()}{f' ({size})' if size else ''}?"
    return click.confirm(question, err=True)
