"""torch's exporter traces each tower once in a session, as that takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clipkit.models.onnx import export, graphs


@pytest.fixture(scope="session")
def _graphs() -> dict:
    """Graphs by the digest of their model's weights, and tower: the same weights yield the same graph."""
    return {}


@pytest.fixture(scope="module", autouse=True)
def _traced_once(_graphs: dict) -> Iterator[None]:
    def remembered(encoder, tower, *, optimize):
        key = export._digest(encoder), tower, optimize
        if key not in _graphs:
            _graphs[key] = graphs.graph_of(encoder, tower, optimize=optimize)
        return _graphs[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "graph_of", remembered)
        yield
