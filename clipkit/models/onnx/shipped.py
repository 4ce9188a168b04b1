"""ONNX graphs shipped beside a checkpoint: tens of KB without weights, which they take from the checkpoint.

With them the bundled model runs in ONNX Runtime from a fresh installation, and its weights are stored once. The graphs
refer to weights by their names in the safetensors file, so they remain valid when the model is trained again with the
same configuration; with any other configuration they are ignored.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipkit.errors import ClipkitError
from clipkit.images.preprocessing import Preprocessing
from clipkit.models.onnx.session import OnnxEncoder, image_options, open_session, text_options
from clipkit.models.reference import ModelRef
from clipkit.models.registry import CONFIG, WEIGHTS
from clipkit.models.tokenizing import ClipTokenizer

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

    from clipkit.models.onnx.graphs import Tower
    from clipkit.models.torch_encoder import OpenClipEncoder

GRAPHS = {"text": "text.onnx", "image": "image.onnx"}
GRAPH_INFO = "onnx.json"
"""The architecture that the graphs were made for, and the weights that each needs; written last."""
_ROWS, _LOOKUP = "token_embedding.rows", "token_embedding.lookup"


def shipped_encoder(model: ModelRef) -> OnnxEncoder | None:
    """Return the encoder of a checkpoint folder that contains graphs for its configuration; otherwise None."""
    folder = model.folder
    if not folder or not all((folder / name).is_file() for name in (*GRAPHS.values(), WEIGHTS)):
        return None
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        info = json.loads((folder / GRAPH_INFO).read_text("utf-8"))
        if info["model"] != _digest(config["model_cfg"]):
            return None
        text_cfg, own, preprocess = config["model_cfg"]["text_cfg"], config["clipkit"], config["preprocess_cfg"]
        preprocessing = Preprocessing(
            config["model_cfg"]["vision_cfg"]["image_size"],
            tuple(preprocess["mean"]),
            tuple(preprocess["std"]),
            preprocess["interpolation"],
            preprocess["resize_mode"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    weights = cache(lambda: _weights(folder, text_cfg["vocab_size"]))
    return OnnxEncoder(
        model.id,
        config["model_cfg"]["embed_dim"],
        preprocessing,
        tokenizer=lambda: ClipTokenizer(text_cfg["context_length"]),
        text=lambda: _session(folder / GRAPHS["text"], weights(), info["text"], text_options()),
        image=lambda: _session(folder / GRAPHS["image"], weights(), info["image"], image_options()),
        vocabulary=frozenset(own.get("vocabulary", ())),
        concepts=tuple(own.get("concepts", ())),
        match=own.get("match"),
    )


def _session(
    graph: Path, weights: dict[str, np.ndarray], names: list[str], options: SessionOptions
) -> InferenceSession:
    from onnxruntime import OrtValue

    options.add_external_initializers(names, [OrtValue.ortvalue_from_numpy(weights[name]) for name in names])
    return open_session(graph.read_bytes(), options)


def _weights(folder: Path, vocab_size: int) -> dict[str, np.ndarray]:
    """Return the checkpoint's arrays in float32, with the token table as its rows and the row of each token, int32
    (vocabulary,)."""
    from safetensors.numpy import load_file

    state = load_file(folder / WEIGHTS)
    state = {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in state.items()}
    ids = state.pop("token_embedding.ids")
    lookup = np.full(vocab_size, len(ids), np.int32)
    lookup[ids] = np.arange(len(ids), dtype=np.int32)
    state[_ROWS] = np.concatenate([state[_ROWS], state.pop("token_embedding.unknown")[None]])
    return {**state, _LOOKUP: lookup}


def write_graphs(folder: Path) -> float:
    """Write both graphs beside a checkpoint that `clipkit.training.clip` saved; return their agreement with torch.

    `folder` holds a model as `clipkit.training.clip_export` saves it. Raises ClipkitError if the vectors do not agree.
    """
    from clipkit.models.onnx.export import MINIMUM_COSINE, compare
    from clipkit.models.onnx.graphs import compact_tokens

    model = ModelRef.resolve(str(folder))
    from clipkit.models import checkpoint

    encoder = checkpoint.load(model, "cpu")
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    weights = _weights(folder, config["model_cfg"]["text_cfg"]["vocab_size"])
    towers: tuple[Tower, Tower] = ("text", "image")
    info: dict = {"model": _digest(config["model_cfg"])}
    (folder / GRAPH_INFO).unlink(missing_ok=True)
    for tower in towers:
        with compact_tokens(encoder.model):
            graph, info[tower] = _without_weights(encoder, tower, weights)
        (folder / GRAPHS[tower]).write_bytes(graph)
    (folder / GRAPH_INFO).write_text(json.dumps(info, indent=1) + "\n", "utf-8")
    shipped = shipped_encoder(model)
    assert shipped is not None
    agreement = min(compare(encoder, shipped).values())
    if agreement < MINIMUM_COSINE:
        raise ClipkitError(f"the graphs written to {folder} do not agree with torch (cosine {agreement:.6f})")
    return agreement


def _without_weights(encoder: OpenClipEncoder, tower: Tower, weights: dict) -> tuple[bytes, list[str]]:
    """Return a graph without its weights, and their names."""
    import onnx_ir as ir
    from onnxscript.optimizer import optimize_ir

    from clipkit.models.onnx.graphs import graph_of

    model = graph_of(encoder, tower, optimize=False).model
    graph = model.graph
    removed = {}
    for name in list(graph.initializers):
        stored = name.removeprefix("model.")
        if stored in weights:
            value = graph.initializers.pop(name)
            value.name, value.const_value = stored, None
            value.shape = ir.Shape(weights[stored].shape)
            removed[stored] = value
            graph.inputs.append(value)  # during optimisation, so that no weight is folded into a constant
    optimize_ir(model)
    for name, value in removed.items():
        graph.inputs.remove(value)
        value.const_value = ir.ExternalTensor(
            WEIGHTS,
            0,
            weights[name].nbytes,
            ir.DataType.from_numpy(weights[name].dtype),
            name=name,
            shape=ir.Shape(weights[name].shape),
        )
        graph.register_initializer(value)
    return ir.to_proto(model).SerializeToString(), sorted(removed)


def _digest(model_cfg: dict) -> str:
    """Hash an architecture's configuration."""
    return hashlib.sha256(json.dumps(model_cfg, sort_keys=True).encode()).hexdigest()[:32]
