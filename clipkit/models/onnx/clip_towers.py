"""The towers of OpenAI's CLIP as ONNX graphs, built from the weights without torch.

The architecture is that of A. Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
2021, with a vision transformer, as open_clip builds it from a configuration without special settings; most published
models are of this kind. torch's exporter traces them in a minute, after an import of ten seconds; this takes seconds.

Only one token of the last block is read, so that block computes queries and its perceptron for this token alone: 7% of
ViT-B-32's image tower, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.models.onnx.graphs import INPUTS, Tower

if TYPE_CHECKING:
    import onnx_ir as ir

OPSET, CONTRIB = 20, "com.microsoft"
_VISION_KEYS = {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"}
_TEXT_KEYS = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
_MODEL_KEYS = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}
_EPSILON = 1e-5
"""Of the layer norms, which is torch's default."""
_MASKED = np.array(-3e38, np.float32)


@dataclass(frozen=True)
class Transformer:
    """The blocks of one tower.

    prefix: of the names of their weights.
    hidden: width of the perceptrons.
    quick_gelu: whether their activation is x * sigmoid(1.702 x) instead of GELU.
    """

    prefix: str
    width: int
    heads: int
    layers: int
    hidden: int
    quick_gelu: bool


@dataclass(frozen=True)
class ClipArchitecture:
    """A plain CLIP model with a vision transformer."""

    dimension: int
    image_size: int
    patch_size: int
    context_length: int
    vocabulary: int
    vision: Transformer
    text: Transformer

    @classmethod
    def of(cls, model_cfg: Mapping[str, Any], *, quick_gelu: bool = False) -> ClipArchitecture | None:
        """Return the architecture of an open_clip configuration; None if it has any setting unknown here.

        quick_gelu: whether the weights need it although the configuration does not say so, as OpenAI's do.
        """
        try:
            vision, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
            if not (model_cfg.keys() <= _MODEL_KEYS and vision.keys() <= _VISION_KEYS and text.keys() <= _TEXT_KEYS):
                return None
            if not all(isinstance(vision[key], int) for key in ("image_size", "patch_size", "layers")):
                return None  # rectangles, or the layers of a ResNet
            quick = quick_gelu or bool(model_cfg.get("quick_gelu"))
            return cls(
                dimension=model_cfg["embed_dim"],
                image_size=vision["image_size"],
                patch_size=vision["patch_size"],
                context_length=text["context_length"],
                vocabulary=text["vocab_size"],
                vision=_transformer("visual.", vision, vision["width"] // vision.get("head_width", 64), quick),
                text=_transformer("", text, text["heads"], quick),
            )
        except (KeyError, TypeError, AttributeError):
            return None


def _transformer(prefix: str, tower: Mapping[str, Any], heads: int, quick_gelu: bool) -> Transformer:
    width = tower["width"]
    hidden = int(width * tower.get("mlp_ratio", 4.0))
    return Transformer(f"{prefix}transformer", width, heads, tower["layers"], hidden, quick_gelu)


def weight_shapes(a: ClipArchitecture) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of all weights, as open_clip has them; a checkpoint with others is another model."""
    patches, (vision, text) = a.image_size // a.patch_size, (a.vision, a.text)
    shapes: dict[str, tuple[int, ...]] = {
        "visual.conv1.weight": (vision.width, 3, a.patch_size, a.patch_size),
        "visual.class_embedding": (vision.width,),
        "visual.positional_embedding": (patches**2 + 1, vision.width),
        "visual.proj": (vision.width, a.dimension),
        "token_embedding.weight": (a.vocabulary, text.width),
        "positional_embedding": (a.context_length, text.width),
        "text_projection": (text.width, a.dimension),
        "logit_scale": (),
    }
    norms = {"visual.ln_pre": vision.width, "visual.ln_post": vision.width, "ln_final": text.width}
    for tower in (vision, text):
        for layer in range(tower.layers):
            prefix = f"{tower.prefix}.resblocks.{layer}"
            norms |= {f"{prefix}.ln_1": tower.width, f"{prefix}.ln_2": tower.width}
            shapes |= {
                f"{prefix}.attn.in_proj_weight": (3 * tower.width, tower.width),
                f"{prefix}.attn.in_proj_bias": (3 * tower.width,),
                f"{prefix}.attn.out_proj.weight": (tower.width, tower.width),
                f"{prefix}.attn.out_proj.bias": (tower.width,),
                f"{prefix}.mlp.c_fc.weight": (tower.hidden, tower.width),
                f"{prefix}.mlp.c_fc.bias": (tower.hidden,),
                f"{prefix}.mlp.c_proj.weight": (tower.width, tower.hidden),
                f"{prefix}.mlp.c_proj.bias": (tower.width,),
            }
    return shapes | {f"{name}.{part}": (width,) for name, width in norms.items() for part in ("weight", "bias")}


def build_tower(architecture: ClipArchitecture, tower: Tower, weights: Mapping[str, np.ndarray]) -> ir.Model:
    """Return a tower's graph for ONNX Runtime: its input as `OnnxEncoder` describes it, its output "vectors".

    weights: those of `weight_shapes`, as float32, float16 or float64.
    """
    build = _image_tower if tower == "image" else _text_tower
    return build(_Graph(weights), architecture)


class _Graph:
    """A graph under construction, on matrices (rows, columns): a row for each token of each picture or text."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        import onnx_ir as ir

        self._ir, self._tape, self._weights = ir, ir.tape.Tape(), weights
        self._values: dict[str, ir.Value] = {}

    def op(self, kind: str, *inputs: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        return self._tape.op(kind, inputs, attributes, domain=domain)

    def split(self, value: ir.Value, parts: int) -> Sequence[ir.Value]:
        return self._tape.op_multi_out("Split", [value], {"axis": -1, "num_outputs": parts}, num_outputs=parts)

    def constant(self, name: str, value: np.ndarray) -> ir.Value:
        if name not in self._values:
            self._values[name] = self._tape.initializer(self._ir.tensor(value, name=name), name)
        return self._values[name]

    def shape(self, *sides: int) -> ir.Value:
        return self.constant(f"shape {sides}", np.array(sides, np.int64))

    def array(self, name: str) -> np.ndarray:
        return self._weights[name].astype(np.float32, copy=False)

    def weight(self, name: str) -> ir.Value:
        return self.constant(name, self.array(name))

    def linear(self, x: ir.Value, prefix: str) -> ir.Value:
        return self.op("Gemm", x, self.weight(f"{prefix}.weight"), self.weight(f"{prefix}.bias"), transB=1)

    def norm(self, x: ir.Value, prefix: str) -> ir.Value:
        scale, shift = self.weight(f"{prefix}.weight"), self.weight(f"{prefix}.bias")
        return self.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=_EPSILON)

    def model(self, tower: Tower, input_: ir.Value, output: ir.Value, dimension: int) -> ir.Model:
        ir = self._ir
        output.name, output.shape, output.type = "vectors", ir.Shape(["n", dimension]), ir.TensorType(ir.DataType.FLOAT)
        graph = ir.Graph(
            [input_],
            [output],
            nodes=self._tape.nodes,
            initializers=self._tape.initializers,
            opset_imports={"": OPSET, CONTRIB: 1},
            name=tower,
        )
        return ir.Model(graph, ir_version=10, producer_name="clipkit")

    def input(self, tower: Tower, *shape: int | str) -> ir.Value:
        ir = self._ir
        kind = ir.DataType.FLOAT if tower == "image" else ir.DataType.INT64
        return ir.Value(name=INPUTS[tower], shape=ir.Shape(shape), type=ir.TensorType(kind))


def _image_tower(g: _Graph, a: ClipArchitecture) -> ir.Model:
    width, patch, grid = a.vision.width, a.patch_size, a.image_size // a.patch_size
    tokens = grid * grid + 1
    pixels = g.input("image", "n", 3, a.image_size, a.image_size)
    # A convolution whose stride is its size is a product of the patches, as rows, with the kernels.
    cut = g.op("Reshape", pixels, g.shape(-1, 3, grid, patch, grid, patch))
    patches = g.op("Reshape", g.op("Transpose", cut, perm=[0, 2, 4, 1, 3, 5]), g.shape(-1, 3 * patch * patch))
    kernels = g.array("visual.conv1.weight").reshape(width, 3 * patch * patch)
    embedded = g.op("Gemm", patches, g.constant("visual.conv1.weight", kernels), transB=1)
    embedded = g.op("Reshape", embedded, g.shape(-1, tokens - 1, width))
    positions = g.array("visual.positional_embedding")
    first = g.array("visual.class_embedding") + positions[0]
    embedded = g.op("Add", embedded, g.constant("visual.positions", positions[1:]))
    count = g.op("Shape", pixels, start=0, end=1)
    expanded = g.op("Concat", count, g.shape(1, width), axis=0)
    classes = g.op("Expand", g.constant("visual.class_token", first.reshape(1, 1, width)), expanded)
    rows = g.op("Reshape", g.op("Concat", classes, embedded, axis=1), g.shape(-1, width))
    rows = g.norm(rows, "visual.ln_pre")
    for layer in range(a.vision.layers - 1):
        rows = _block(g, a.vision, layer, rows, g.shape(-1, tokens, width))

    def read(x: ir.Value) -> ir.Value:
        return g.op("Gather", g.op("Reshape", x, g.shape(-1, tokens, width)), g.constant("zero", np.array(0)), axis=1)

    rows = _last_block(g, a.vision, rows, g.shape(-1, tokens, width), read, None)
    rows = g.norm(rows, "visual.ln_post")
    output = g.op("MatMul", rows, g.weight("visual.proj"))
    return g.model("image", pixels, output, a.dimension)


def _text_tower(g: _Graph, a: ClipArchitecture) -> ir.Model:
    width = a.text.width
    tokens = g.input("text", "n", "length")
    table = g.weight("token_embedding.weight")
    length = g.op("Shape", tokens, start=1, end=2)
    positions = g.weight("positional_embedding")
    positions = g.op("Slice", positions, g.shape(0), length, g.shape(0))
    embedded = g.op("Add", g.op("Gather", table, tokens), positions)
    rows = g.op("Reshape", embedded, g.shape(-1, width))
    sequences = g.op("Concat", g.shape(-1), length, g.shape(width), axis=0)
    for layer in range(a.text.layers - 1):
        rows = _block(g, a.text, layer, rows, sequences, causal=True)
    # The vector is read at the end of the text, whose token has the highest id.
    end = g.op("ArgMax", tokens, axis=1, keepdims=1)

    def read(x: ir.Value) -> ir.Value:
        return g.op("GatherND", g.op("Reshape", x, sequences), end, batch_dims=1)

    places = g.op("Range", g.constant("zero", np.array(0)), g.op("Squeeze", length), g.constant("one", np.array(1)))
    later = g.op("Greater", g.op("Unsqueeze", places, g.shape(0)), end)
    hidden = g.op("Where", later, g.constant("masked", _MASKED), g.constant("open", np.array(0, np.float32)))
    mask = g.op("Unsqueeze", hidden, g.shape(1, 2))  # (n, 1, 1, length)
    rows = _last_block(g, a.text, rows, sequences, read, mask)
    rows = g.norm(rows, "ln_final")
    output = g.op("MatMul", rows, g.weight("text_projection"))
    return g.model("text", tokens, output, a.dimension)


def _block(
    g: _Graph, t: Transformer, layer: int, rows: ir.Value, sequences: ir.Value, *, causal: bool = False
) -> ir.Value:
    """Add a block for all tokens; `sequences` is the shape (n, tokens, width)."""
    prefix = f"{t.prefix}.resblocks.{layer}"
    weight = g.weight(f"{prefix}.attn.in_proj_weight")
    bias = g.weight(f"{prefix}.attn.in_proj_bias")
    projected = g.op("Gemm", g.norm(rows, f"{prefix}.ln_1"), weight, bias, transB=1)
    parts = (g.op("Reshape", part, sequences) for part in g.split(projected, 3))
    attributes = {"num_heads": t.heads, "unidirectional": int(causal)}
    attended = g.op("MultiHeadAttention", *parts, domain=CONTRIB, **attributes)
    return _after_attention(g, t, prefix, rows, attended)


def _last_block(
    g: _Graph,
    t: Transformer,
    rows: ir.Value,
    sequences: ir.Value,
    read: Callable[[ir.Value], ir.Value],
    mask: ir.Value | None,
) -> ir.Value:
    """Add the last block for the one token that `read` takes from (n * tokens, width), and return its row.

    mask: added to the attention's scores, (n, 1, 1, tokens).
    """
    prefix = f"{t.prefix}.resblocks.{t.layers - 1}"
    weight = g.array(f"{prefix}.attn.in_proj_weight")
    bias = g.array(f"{prefix}.attn.in_proj_bias")

    def project(x: ir.Value, part: str, first: int, last: int) -> ir.Value:
        chosen = slice(first * t.width, last * t.width)
        name = f"{prefix}.attn.{part}"
        return g.op(
            "Gemm", x, g.constant(f"{name}.weight", weight[chosen]), g.constant(f"{name}.bias", bias[chosen]), transB=1
        )

    normed = g.norm(rows, f"{prefix}.ln_1")
    row_of_each = g.shape(-1, t.width)
    query = project(g.op("Reshape", read(normed), row_of_each), "query", 0, 1)
    keys, values = (g.op("Reshape", x, sequences) for x in g.split(project(normed, "keys_values", 1, 3), 2))
    one_token = g.op("Reshape", query, g.shape(-1, 1, t.width))
    attended = g.op("MultiHeadAttention", one_token, keys, values, None, None, mask, domain=CONTRIB, num_heads=t.heads)
    return _after_attention(g, t, prefix, g.op("Reshape", read(rows), row_of_each), attended)


def _after_attention(g: _Graph, t: Transformer, prefix: str, rows: ir.Value, attended: ir.Value) -> ir.Value:
    """Add the projection of the attention and the perceptron, each added to what it started from."""
    attended = g.op("Reshape", attended, g.shape(-1, t.width))
    rows = g.op("Add", rows, g.linear(attended, f"{prefix}.attn.out_proj"))
    hidden = g.linear(g.norm(rows, f"{prefix}.ln_2"), f"{prefix}.mlp.c_fc")
    hidden = g.op("QuickGelu", hidden, domain=CONTRIB, alpha=1.702) if t.quick_gelu else g.op("Gelu", hidden)
    return g.op("Add", rows, g.linear(hidden, f"{prefix}.mlp.c_proj"))
