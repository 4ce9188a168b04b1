"""Memory that runs out: how much is left, which errors mean it, and computing in batches that fit."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

_CGROUP = Path("/sys/fs/cgroup")
_SIGNS = (
    "out of memory",  # CUDA, HIP, Metal
    "_ALLOC_FAILED",  # cuBLAS and cuDNN, which allocate for themselves
    "Invalid buffer size",  # Metal, of one tensor
    "DefaultCPUAllocator",
    "bad_alloc",
    "bad allocation",
    "Failed to allocate memory",  # ONNX Runtime
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a GPU or the machine has no memory left.

    torch has a class for CUDA only, and ONNX Runtime none: of the others the message tells. An error of ours that was
    raised because of one counts too.
    """
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch and isinstance(error, torch.OutOfMemoryError):
        return True
    if isinstance(error, Exception) and any(sign in str(error) for sign in _SIGNS):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


def free_memory() -> int:
    """Bytes of main memory that may still be taken, by the machine's own count and by the limit of a container."""
    import psutil

    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # other systems, and "max" where there is no limit
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        files = next(
            int(line.split()[1]) for line in (_CGROUP / "memory.stat").read_text().splitlines() if line[:5] == "file "
        )
        free = min(free, limit - used + files)  # what files take is given back when it is wanted
    return max(0, free)


def way_out(device: str) -> str:
    """What makes room on a device that has run out of memory."""
    return "close what else uses it" if device == "cpu" else "close what else uses it, take --device cpu"


class Fitting:
    """Computes batches in parts that fit into memory, and remembers the size that did.

    A part that does not fit is halved. Raises what the computation raises if a single item does not fit, see
    `is_out_of_memory`.
    """

    def __init__(self) -> None:
        self.most = sys.maxsize

    def __call__(self, compute: Callable[[np.ndarray], np.ndarray], batch: np.ndarray) -> np.ndarray:
        """`compute` of all rows of `batch`."""
        parts: list[np.ndarray] = []
        done = 0
        while done < len(batch) or not parts:
            part = batch[done : done + self.most]
            try:
                parts.append(compute(part))
            except Exception as error:
                if len(part) <= 1 or not is_out_of_memory(error):
                    raise
                self.most = len(part) // 2
            else:
                done += len(part)
                continue
            give_back()  # not above: there the error still holds what was computed so far
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def give_back() -> None:
    """Gives the memory that torch keeps for later back to the GPU."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch and torch.backends.mps.is_available():
        torch.mps.empty_cache()
