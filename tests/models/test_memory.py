"""Out of memory: batches are halved until they fit, and a single item that does not fit is an error of one line."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipkit.errors import ModelNotAvailable
from clipkit.models.loading import export_model, load_torch_encoder
from clipkit.models.memory import AdaptiveBatches, free_memory, is_out_of_memory
from clipkit.models.torch_encoder import OpenClipEncoder
from clipkit.vectors.unit import unit


class SmallGpu:
    """A stand-in for a GPU: models raise CUDA's out-of-memory error for batches of more than `capacity` items."""

    def __init__(self) -> None:
        self.capacity = 10**9
        self.batches: list[int] = []

    def __call__(self, module, inputs) -> None:
        import torch

        name = type(module).__name__
        if name == "ModifiedResNet" or "UNet" in name:  # the bundled model's image tower, and decoders
            self.batches.append(len(inputs[0]) if inputs else 1)
            if self.batches[-1] > self.capacity:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a capacity of")


@pytest.fixture
def gpu() -> Iterator[SmallGpu]:
    from torch.nn.modules.module import register_module_forward_pre_hook

    gpu = SmallGpu()
    handle = register_module_forward_pre_hook(gpu)
    yield gpu
    handle.remove()


@pytest.fixture
def in_torch(monkeypatch) -> Iterator[None]:
    """Make indexing use torch, in batches of any size, as it does on a GPU."""

    def load(model: str, *_: object, **__: object) -> OpenClipEncoder:
        encoder = load_torch_encoder(model, "cpu")
        encoder.image_batch, encoder._image_batches = None, AdaptiveBatches()
        return encoder

    load_torch_encoder.cache_clear()
    monkeypatch.setattr("clipkit.indexing.run.load_encoder", load)
    yield
    load_torch_encoder.cache_clear()


@given(rows=st.integers(0, 40), capacity=st.integers(1, 50))
def test_a_batch_is_halved_until_it_fits(rows, capacity):
    tried = []

    def compute(part: np.ndarray) -> np.ndarray:
        tried.append(len(part))
        if len(part) > capacity:
            raise MemoryError
        return 2 * part

    batches, batch = AdaptiveBatches(), np.arange(rows * 3).reshape(rows, 3)
    assert np.array_equal(batches(compute, batch), 2 * batch)
    failed = [size for size in tried if size > capacity]
    assert failed == sorted(set(failed), reverse=True), "a size that did not fit is not tried again"
    tried.clear()
    batches(compute, batch)
    assert all(size <= capacity for size in tried)


@pytest.mark.parametrize(("capacity", "error"), [(0, MemoryError()), (5, ValueError("another error"))])
def test_errors_that_halving_does_not_solve_are_raised(capacity, error):
    tried = []

    def compute(part: np.ndarray) -> np.ndarray:
        tried.append(len(part))
        raise error

    with pytest.raises(type(error)):
        AdaptiveBatches()(compute, np.zeros((8, 2)))
    assert tried == ([8, 4, 2, 1] if capacity == 0 else [8])


def test_out_of_memory_is_distinguished_from_other_errors():
    import torch

    for make in (lambda: torch.empty(2**60), lambda: np.empty(2**60, np.uint8)):  # real errors
        with pytest.raises((RuntimeError, MemoryError)) as real:
            make()
        assert is_out_of_memory(real.value)
    for message in (
        "MPS backend out of memory (MPS allocated: 17.91 GB, other allocations: 130.87 MB, max allowed: 18.13 GB)",
        "HIP out of memory. Tried to allocate 512.00 MiB",
        "CUDA error: out of memory\nCUDA kernel errors might be",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 1024",
    ):
        assert is_out_of_memory(RuntimeError(message)), message
    ours = ModelNotAvailable("one line")
    ours.__cause__ = torch.OutOfMemoryError("CUDA out of memory")
    assert is_out_of_memory(ours)
    for other in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), OSError(28, "No space left on device")):
        assert not is_out_of_memory(other)


def test_free_memory_is_less_than_total_memory():
    import psutil

    assert 0 < free_memory() <= psutil.virtual_memory().total


def test_vectors_are_the_same_in_smaller_batches(gpu):
    encoder = load_torch_encoder("tiny", "cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), np.uint8)
    whole = unit(encoder.encode_images(pixels))
    gpu.capacity = 3
    assert np.abs(unit(encoder.encode_images(pixels)) - whole).max() < 1e-5
    gpu.batches.clear()
    encoder.encode_images(pixels)
    assert max(gpu.batches) <= 3
    load_torch_encoder.cache_clear()


def test_indexing_continues_in_smaller_batches(clipkit, scene_folder, gpu, in_torch):
    gpu.capacity = 3
    output = clipkit("index", scene_folder / "2023", "--model", "tiny", "--batch-size", "16", "--json")
    assert output.code == 0, output.err
    report = json.loads(output.out)
    assert report["failed"] == 0 and report["embedded"] == report["scanned"] > 16
    assert max(gpu.batches) == 16 and max(gpu.batches[4:]) <= 3


def test_no_memory_for_a_single_picture_is_an_error_of_one_line_and_loses_nothing(clipkit, scene_folder, gpu, in_torch):
    gpu.capacity = 0
    output = clipkit("index", scene_folder / "2023", "--model", "tiny")
    assert output.code == 2 and output.err.count("\n") == 1, output.err
    assert "not enough memory" in output.err and "smaller model" in output.err and "tiny" in output.err
    gpu.capacity = 100
    assert clipkit("index", scene_folder / "2023", "--model", "tiny").code == 0


@pytest.mark.parametrize("command", ["generate", "search"])
def test_no_memory_for_a_decoder_is_an_error_of_one_line(clipkit, scene_folder, tmp_path, kandinsky, gpu, command):
    gpu.capacity = 0
    if command == "generate":
        output = clipkit("generate", "a dog", "--decoder", kandinsky, "-o", tmp_path / "a.png")
    else:
        assert clipkit("index", scene_folder / "2023", "--model", "tiny").code == 0
        output = clipkit("search", "a helicopter in the snow", "--generate", "always")
    assert output.code == 2 and "not enough memory" in output.err and "decoders list" in output.err
    assert output.err.splitlines()[-1].startswith("clipkit: ") and "Traceback" not in output.err
    assert not (tmp_path / "a.png").exists()


def test_a_search_without_memory_to_generate_shows_its_hits(clipkit, scene_folder, gpu):
    assert clipkit("index", scene_folder / "2023", "--model", "tiny").code == 0
    gpu.capacity = 0
    output = clipkit("search", "a helicopter in the snow", "--json")
    found = json.loads(output.out)
    assert output.code == 1 and found["hits"] and not found["generated"]
    assert any("not enough memory" in note for note in found["notes"])


def test_an_export_that_does_not_fit_into_memory_is_postponed(monkeypatch, tmp_path):
    """There may be more memory next time."""
    from clipkit.models import loading
    from clipkit.models.onnx import export, exports

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    encoder = load_torch_encoder("tiny", "cpu")
    monkeypatch.setattr(export, "free_memory", lambda: 10_000_000)
    assert loading._export(encoder, None, again=False) is None
    assert "not exported" in encoder.note and "GB are free" in encoder.note and "models export" in encoder.note
    with pytest.raises(ModelNotAvailable, match="GB are free"):
        export_model("tiny")
    assert exports.find_export("tiny") is None
    monkeypatch.undo()
    size = sum(parameter.numel() * 4 for parameter in encoder.model.parameters())
    export._check_memory(size, "cpu")
    encoder.note = ""
    load_torch_encoder.cache_clear()
