"""Where the model hub's files lie on this disk, without asking anybody: its cache, and what the environment says.

The layout is huggingface_hub's: models--OWNER--NAME/refs/main holds a commit, and snapshots/COMMIT/ the files of it,
each a link into blobs/. The variables are read when they are needed, so that a program may set them at any time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

YES = ("1", "ON", "YES", "TRUE")


def hub_cache() -> Path:
    """The folder of the hub's cache: $HF_HUB_CACHE, else $HF_HOME/hub, else ~/.cache/huggingface/hub."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.path.expandvars(os.environ[variable])).expanduser()
    home = os.environ.get("HF_HOME")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def endpoint() -> str:
    """The hub's address: $HF_ENDPOINT, or the public one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def is_offline() -> bool:
    """Whether $HF_HUB_OFFLINE or $TRANSFORMERS_OFFLINE forbids the network."""
    if any(os.environ.get(v, "").upper() in YES for v in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")):
        return True
    constants = sys.modules.get("huggingface_hub.constants")
    return bool(constants and constants.HF_HUB_OFFLINE)  # it was set when that was imported, and would refuse


def repository_folder(repository: str) -> Path:
    """Where the cache keeps a repository; it need not be there."""
    return hub_cache() / ("models--" + repository.replace("/", "--"))


def snapshot_in(folder: Path) -> Path | None:
    """The folder of the files of a repository's main branch, or None if none was downloaded."""
    try:
        commit = (folder / "refs" / "main").read_text("utf-8").strip()
    except OSError:
        return None
    snapshot = folder / "snapshots" / commit
    return snapshot if commit and snapshot.is_dir() else None


def snapshot(repository: str) -> Path | None:
    """The cached files of a repository's main branch, or None."""
    return snapshot_in(repository_folder(repository)) if repository else None
