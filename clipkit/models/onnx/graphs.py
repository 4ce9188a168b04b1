"""Converting the towers of an open_clip model to ONNX graphs."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np

from clipkit.models.text_tower import encode_tokens, is_causal, trim_padding

if TYPE_CHECKING:
    import torch
    from torch.onnx import ONNXProgram

    from clipkit.models.torch_encoder import OpenClipEncoder

Tower = Literal["text", "image"]
INPUTS = {"text": "tokens", "image": "pixels"}


def tower_module(encoder: OpenClipEncoder, tower: Tower) -> torch.nn.Module:
    """Return a tower as a module: tokens int64 (n, length) or normalised pixels float32 to float32 (n, dimension)."""
    import torch

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = encoder.model

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            if tower == "image":
                return self.model.encode_image(batch).float()
            return encode_tokens(self.model, batch).float()

    return Tower().eval()


def graph_of(encoder: OpenClipEncoder, tower: Tower, *, optimize: bool) -> ONNXProgram:
    """Export one tower on the CPU, for batches of any size and, in a causal text tower, tokens of any length.

    Raises the errors of torch's exporter.
    """
    import torch

    sizes = {0: torch.export.Dim("n")}
    if tower == "text":
        tokens = encoder.tokens(["a dog", "a cat on the beach", ""])
        if is_causal(encoder.model):
            sizes[1] = torch.export.Dim("length", max=tokens.shape[1])
            tokens = trim_padding(tokens)
        example = torch.from_numpy(tokens)
    else:
        size = encoder.preprocessing.size
        example = torch.zeros((3, 3, size, size))
    with quiet(), torch.inference_mode(False), torch.no_grad():
        program = torch.onnx.export(
            tower_module(encoder, tower),
            (example,),
            dynamo=True,
            input_names=[INPUTS[tower]],
            output_names=["vectors"],
            dynamic_shapes=(sizes,),
            optimize=optimize,
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():  # source locations take ten times the space of the graph
        node.metadata_props.clear()
        node.doc_string = None
    return program


@contextmanager
def on_cpu(encoder: OpenClipEncoder) -> Iterator[None]:
    """Move the model to the CPU, in float32, for the duration: graphs are traced, checked and timed there."""
    device = next(encoder.model.parameters()).device
    encoder.move("cpu")
    try:
        yield
    finally:
        encoder.move(device)


@contextmanager
def compact_tokens(model: torch.nn.Module) -> Iterator[None]:
    """Replace a token table with mostly identical rows by a lookup into its distinct rows, for the duration.

    The bundled model knows a few hundred of 49,408 tokens, see `checkpoint.spread_token_rows`.
    """
    import torch

    owner = getattr(model, "text", model)
    table = getattr(owner, "token_embedding", None)
    found = _distinct_rows(table.weight) if isinstance(table, torch.nn.Embedding) else None
    if found is None:
        yield
        return
    rows, lookup = found

    class CompactTokens(torch.nn.Module):
        lookup: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.rows = torch.nn.Parameter(rows)
            self.register_buffer("lookup", lookup)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.embedding(self.lookup[tokens].long(), self.rows)

    owner.token_embedding = CompactTokens()
    try:
        yield
    finally:
        owner.token_embedding = table


def _distinct_rows(table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the distinct rows, with the common row last, and the row of each token, int32 (vocabulary,).

    Returns None if fewer than half of the rows are identical.
    """
    import torch

    with torch.no_grad():
        # Equal rows have exactly equal projections: the same numbers are added in the same order.
        probe = table.double() @ torch.linspace(1, 2, table.shape[1], dtype=torch.float64)
        values, counts = probe.unique(return_counts=True)
        common = values[counts.argmax()]
        ids = (probe != common).nonzero()[:, 0]
        if 2 * len(ids) > len(table):
            return None
        same = (probe == common).nonzero()[:, 0]
        if not (table[same] == table[same[0]]).all():
            return None
        lookup = torch.full((len(table),), len(ids), dtype=torch.int32)
        lookup[ids] = torch.arange(len(ids), dtype=torch.int32)
        return torch.cat([table[ids], table[same[:1]]]).detach().clone(), lookup


def agreement(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return how well vectors (n, d) agree: the lowest cosine of a row, minus its relative error in length beyond 0.1%.

    NaN and infinity count as 0.
    """
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return 0.0
    norms, expected_norms = np.linalg.norm(actual, axis=1), np.linalg.norm(expected, axis=1)
    cosines = (actual * expected).sum(1, dtype=np.float64) / np.maximum(norms * expected_norms, 1e-12)
    length_errors = abs(norms / np.maximum(expected_norms, 1e-12) - 1)
    return float(np.nan_to_num((cosines - np.maximum(0, length_errors - 1e-3)).min()))


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter, which prints and logs a lot: failures are raised, and wrong results found by comparing."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
