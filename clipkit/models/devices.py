"""The device that torch computes on."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from clipkit.errors import ModelNotAvailable


def choose_device(device: str) -> str:
    """Return the device to use: "cpu", "cuda" or "mps". "auto" is the fastest that this machine has.

    Raises ModelNotAvailable for a device that it does not have.
    """
    if device == "cpu" or (device == "auto" and not _may_have_gpu()):
        return "cpu"
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, usable in available.items() if usable)
    if not available.get(device):
        raise ModelNotAvailable(f"this machine has no device {device!r}; use --device auto or cpu")
    return device


def _may_have_gpu() -> bool:
    """Return False where no driver that torch supports is installed, to avoid importing torch, which takes seconds."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"  # Metal
    if sys.platform == "win32":
        folder = Path(os.environ.get("SYSTEMROOT", "C:/Windows")) / "System32"
        drivers = ("nvcuda.dll", "amdhip64.dll", "amdhip64_6.dll", "amdhip64_7.dll")
        return any((folder / name).exists() for name in drivers)
    # NVIDIA, NVIDIA Jetson, Windows Subsystem for Linux, AMD
    nodes = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg", "/dev/kfd")
    return any(Path(name).exists() for name in nodes)
