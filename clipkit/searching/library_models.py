"""The models of a library: which one a call means, which is searched by default, and removing one."""

from __future__ import annotations

import shutil

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.coverage import make_default, remove_space
from clipkit.catalog.layout import Layout
from clipkit.errors import ClipkitError, LibraryNotFound


def default_model(catalog: Catalog, layout: Layout) -> str:
    """Return the id of the model that is searched by default.

    Raises LibraryNotFound if nothing has been indexed yet.
    """
    model = next(iter(catalog.spaces()), None)
    if model is None:
        raise LibraryNotFound(f"{layout.folder} is not indexed yet; run `clipkit index FOLDER`")
    return model


def resolve_model(catalog: Catalog, layout: Layout, model: str | None) -> str:
    """Return the id of the library's model that `model` names, or of the default one for None.

    Raises ClipkitError if the library does not have that model.
    """
    if model is None:
        return default_model(catalog, layout)
    from clipkit.models.reference import ModelRef

    wanted, models = ModelRef.resolve(model).id, list(catalog.spaces())
    if wanted not in models:
        raise ClipkitError(
            f"library {layout.name!r} does not have the model {wanted}, only {', '.join(models)}; "
            f"`clipkit index --model {wanted}` adds it"
        )
    return wanted


def use_model(catalog: Catalog, layout: Layout, model: str) -> None:
    """Make one of the library's models the default; hold the write lock. Raises as `resolve_model`."""
    make_default(catalog, resolve_model(catalog, layout, model))


def remove_model(catalog: Catalog, layout: Layout, model: str) -> int:
    """Delete a model's embeddings and search index; hold the write lock.

    Returns the number of embeddings. Raises ClipkitError if it is the library's only model, and as `resolve_model`.
    """
    wanted = resolve_model(catalog, layout, model)
    if len(catalog.spaces()) == 1:
        raise ClipkitError(
            f"{wanted} is the only model of library {layout.name!r}: add another one first "
            "(`clipkit index --model ID`), or delete the whole library (`clipkit remove --library`)"
        )
    # The files first: they can be rebuilt from the catalog, so a kill in between loses nothing.
    shutil.rmtree(layout.vectors(wanted), ignore_errors=True)
    return remove_space(catalog, wanted)
