"""The model hub's cache on disk, and the environment variables that configure the hub.

The layout is huggingface_hub's: models--OWNER--NAME/refs/main holds a commit, and snapshots/COMMIT/ its files, which
are links into blobs/. Variables are read on every call, so a program can set them at any time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

YES = ("1", "ON", "YES", "TRUE")


def hub_cache() -> Path:
    """Return the folder of the cache: $HF_HUB_CACHE, else $HF_HOME/hub, else ~/.cache/huggingface/hub."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.path.expandvars(os.environ[variable])).expanduser()
    home = os.environ.get("HF_HOME")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def endpoint() -> str:
    """Return the address of the hub: $HF_ENDPOINT, or the public one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def is_offline() -> bool:
    """Return whether $HF_HUB_OFFLINE or $TRANSFORMERS_OFFLINE forbids network access."""
    if any(os.environ.get(v, "").upper() in YES for v in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")):
        return True
    # huggingface_hub reads the variable at import; if it was set then, every download would be refused.
    constants = sys.modules.get("huggingface_hub.constants")
    return bool(constants and constants.HF_HUB_OFFLINE)


def repository_folder(repository: str) -> Path:
    """Return the folder of a repository in the cache, which need not exist."""
    return hub_cache() / ("models--" + repository.replace("/", "--"))


def snapshot_in(folder: Path) -> Path | None:
    """Return the folder with the files of a repository's main branch, or None if it was never downloaded."""
    try:
        commit = (folder / "refs" / "main").read_text("utf-8").strip()
    except OSError:
        return None
    snapshot = folder / "snapshots" / commit
    return snapshot if commit and snapshot.is_dir() else None


def snapshot(repository: str) -> Path | None:
    """Return the folder with the cached files of a repository's main branch, or None."""
    return snapshot_in(repository_folder(repository)) if repository else None
