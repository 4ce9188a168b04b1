"""Graphs without weights, beside a checkpoint of clipkit's own recipe: tens of KB that take their numbers from it.

So the bundled model is searched in ONNX Runtime from a fresh installation, and is stored once. The graphs name their
weights as the safetensors file does, and hold none of them, so that they go on fitting when the model is trained anew
with the same configuration; with another one they are passed over.
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
from clipkit.models.registry import CONFIG, WEIGHTS, canonical_id, checkpoint_folder
from clipkit.models.tokenizing import ClipTokenizer

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

    from clipkit.models.encoder import OpenClipEncoder
    from clipkit.models.onnx.graphs import Tower

GRAPHS = {"text": "text.onnx", "image": "image.onnx"}
LIST = "onnx.json"
"""For which architecture the graphs were made, and the weights that each wants; written last."""
_ROWS, _LOOKUP = "token_embedding.rows", "token_embedding.lookup"


def beside(space: str) -> OnnxEncoder | None:
    """The encoder of a checkpoint folder that carries graphs for the configuration it has; None for all others."""
    folder = checkpoint_folder(space)
    if not folder or not all((folder / name).is_file() for name in (*GRAPHS.values(), WEIGHTS)):
        return None
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        listed = json.loads((folder / LIST).read_text("utf-8"))
        if listed["model"] != _digest(config["model_cfg"]):
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
        canonical_id(space),
        config["model_cfg"]["embed_dim"],
        preprocessing,
        tokenizer=lambda: ClipTokenizer(text_cfg["context_length"]),
        text=lambda: _session(folder / GRAPHS["text"], weights(), listed["text"], text_options()),
        image=lambda: _session(folder / GRAPHS["image"], weights(), listed["image"], image_options()),
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
    """The checkpoint's arrays in float32; of the token table its rows and int32 (vocabulary,), whose they are."""
    from safetensors.numpy import load_file

    state = load_file(folder / WEIGHTS)
    state = {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in state.items()}
    ids = state.pop("token_embedding.ids")
    lookup = np.full(vocab_size, len(ids), np.int32)
    lookup[ids] = np.arange(len(ids), dtype=np.int32)
    state[_ROWS] = np.concatenate([state[_ROWS], state.pop("token_embedding.unknown")[None]])
    return {**state, _LOOKUP: lookup}


def write_graphs(folder: Path) -> float:
    """Writes both graphs beside the checkpoint in `folder` and returns how well their vectors agree with torch's.

    `folder` holds a model as `clipkit.training.clip_export` saves it. Raises ClipkitError if the vectors do not agree.
    """
    from clipkit.models import checkpoint
    from clipkit.models.onnx.export import ENOUGH, compare
    from clipkit.models.onnx.graphs import compact_tokens

    encoder = checkpoint.load(str(folder), "cpu")
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    weights = _weights(folder, config["model_cfg"]["text_cfg"]["vocab_size"])
    towers: tuple[Tower, Tower] = ("text", "image")
    listed: dict = {"model": _digest(config["model_cfg"])}
    (folder / LIST).unlink(missing_ok=True)
    for tower in towers:
        with compact_tokens(encoder.model):
            graph, listed[tower] = _without_weights(encoder, tower, weights)
        (folder / GRAPHS[tower]).write_bytes(graph)
    (folder / LIST).write_text(json.dumps(listed, indent=1) + "\n", "utf-8")
    made = beside(str(folder))
    assert made is not None
    agreement = min(compare(encoder, made).values())
    if agreement < ENOUGH:
        raise ClipkitError(f"the graphs written to {folder} do not agree with torch (cosine {agreement:.6f})")
    return agreement


def _without_weights(encoder: OpenClipEncoder, tower: Tower, weights: dict) -> tuple[bytes, list[str]]:
    """A graph whose weights are left out, and their names."""
    import onnx_ir as ir
    from onnxscript.optimizer import optimize_ir

    from clipkit.models.onnx.graphs import graph_of

    model = graph_of(encoder, tower, optimize=False).model
    graph = model.graph
    left_out = {}
    for name in list(graph.initializers):
        stored = name.removeprefix("model.")
        if stored in weights:
            value = graph.initializers.pop(name)
            value.name, value.const_value = stored, None
            value.shape = ir.Shape(weights[stored].shape)
            left_out[stored] = value
            graph.inputs.append(value)  # while the graph is simplified, so that no number is folded into it
    optimize_ir(model)
    for name, value in left_out.items():
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
    return ir.to_proto(model).SerializeToString(), sorted(left_out)


def _digest(model_cfg: dict) -> str:
    """Of an architecture."""
    return hashlib.sha256(json.dumps(model_cfg, sort_keys=True).encode()).hexdigest()[:32]
