"""Which folders a run goes through, and what it leaves out of each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipkit.errors import ClipkitError
from clipkit.images.file_access import describe_os_error, why_absent


def check_paths(paths: Sequence[Path]) -> None:
    """Raises ClipkitError for a path that is not there, and if not one of them can be looked at.

    Others that cannot be looked at, because a folder above them is closed, say, must not keep the rest from being
    indexed: the run notes them as failures.
    """
    refused: list[str] = []
    for path in paths:
        if absent := why_absent(path):
            raise ClipkitError(absent)
        try:
            os.stat(path)
        except OSError as error:
            refused.append(f"{path} cannot be indexed: {describe_os_error(error)[1]}")
    if refused and len(refused) == len(paths):
        raise ClipkitError(refused[0])


def chosen_roots(
    paths: Sequence[Path], exclude: Sequence[str], known: Mapping[Path, Sequence[str]], *, remove_missing: bool
) -> dict[Path, tuple[str, ...]]:
    """Folders, absolute -> the globs that each leaves out: those named, or all that are `known`.

    `exclude` is for the folders named; without it each keeps its own. Known folders inside one that is named come with
    it, with their own globs: the innermost folder decides about a file. With `remove_missing` a known folder may be
    named though it is not there. Raises ClipkitError.
    """
    named = [Path(os.path.abspath(path.expanduser())) for path in paths]
    check_paths([path for path in named if not (remove_missing and path in known)])
    if not named:
        if not known:
            raise ClipkitError("this library has no folders yet: name some, as in `clipkit index ~/Pictures`")
        named = list(known)
    roots = {root: tuple(exclude) or tuple(known.get(root, ())) for root in named}
    for root, globs in known.items():
        if root not in roots and any(parent in roots for parent in root.parents):
            roots[root] = tuple(globs)
    return roots
