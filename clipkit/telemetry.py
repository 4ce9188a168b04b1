"""Disable the telemetry of clipkit's dependencies: nothing leaves the machine unasked."""

from __future__ import annotations

import os
import sys

_SWITCHES = {
    # Read when ONNX Runtime is imported. Otherwise it stores a device id and an event queue in the user's cache
    # folder, and resolves the host name of its collector.
    "ORT_DISABLE_TELEMETRY": "1",
    # Read when huggingface_hub is imported. Otherwise downloads fetch a list of coding agents from the hub, and send
    # in their headers which one is running and the version of torch.
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def switch_off() -> None:
    """Set the environment variables that the libraries read on import; child processes inherit them.

    Existing values are overridden. If huggingface_hub was imported before clipkit, its constant is set too;
    `clipkit.models.onnx.session.open_session` does the same for ONNX Runtime.
    """
    os.environ.update(_SWITCHES)
    if constants := sys.modules.get("huggingface_hub.constants"):
        constants.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]
