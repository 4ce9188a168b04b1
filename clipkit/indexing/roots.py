"""The folders of an indexing run, and what to exclude from each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from clipkit.catalog.catalog import Catalog
from clipkit.errors import ClipkitError
from clipkit.images.file_access import describe_os_error, why_absent


def check_paths(paths: Sequence[Path]) -> None:
    """Raise ClipkitError if a path does not exist, or if none of them can be accessed.

    If only some cannot be accessed, the run indexes the others and records these as failures.
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


def choose_roots(
    paths: Sequence[Path], exclude: Sequence[str], catalog: Catalog, *, remove_missing: bool
) -> dict[Path, tuple[str, ...]]:
    """Return absolute folder -> excluded globs for `paths`, or for all folders of the library if there are none.

    `exclude`: the globs of the folders in `paths`; if empty, each keeps those it has.
    Known folders inside a named one are included with their own globs, because the innermost folder decides.
    `remove_missing`: known folders may be named even if they do not exist.

    Raises ClipkitError.
    """
    known = dict(catalog.roots())
    named = [Path(os.path.abspath(path.expanduser())) for path in paths]
    check_paths([path for path in named if not (remove_missing and path in known)])
    if not named:
        if not known:
            raise ClipkitError("this library has no folders yet; name some, as in `clipkit index ~/Pictures`")
        named = list(known)
    roots = {root: tuple(exclude) or tuple(known.get(root, ())) for root in named}
    for root, globs in known.items():
        if root not in roots and any(parent in roots for parent in root.parents):
            roots[root] = tuple(globs)
    return roots
