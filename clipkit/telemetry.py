"""Switch off the telemetry of the libraries that clipkit stands on: nothing leaves the machine unasked."""

from __future__ import annotations

import os
import sys

_SWITCHES = {
    # Read when ONNX Runtime is imported. Without it the package stores a device id and a queue of events below the
    # user's cache folder, and looks up its collector on the internet.
    "ORT_DISABLE_TELEMETRY": "1",
    # Read when huggingface_hub is imported. Without it every download asks the hub for a list of coding agents, and
    # says in its headers which of them runs it, and which version of torch.
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def switch_off() -> None:
    """Set what the libraries read before they are imported; child processes inherit it.

    It is set whatever the environment says: nothing in clipkit needs telemetry. Where a program imported
    huggingface_hub before clipkit, its constant is set as well; `onnx_encoder.open_session` does so for ONNX Runtime.
    """
    os.environ.update(_SWITCHES)
    if constants := sys.modules.get("huggingface_hub.constants"):
        constants.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]
