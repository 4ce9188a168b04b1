"""What can be set about a server."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from clipkit.cores import available_cores

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""Names under which only this machine reaches a server."""


def _cache_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("clipkit")) / "thumbnails"


@dataclass(frozen=True)
class ServerSettings:
    """The settings of one server.

    `host`, `port`: where it listens.
    `token`: what clients must present; None lets in everybody who reaches the server.
    `allowed_hosts`: further names that the Host header may have.
    `device`: the device of the models, as in `Library.search`.
    `searches`: how many run at once. `queue`: how many requests may wait for each kind of work, before others get 429.
    `queue_seconds`: how long one waits at most.
    `max_request_bytes`: of a request with uploads. `max_json_bytes`: of one without.
    `max_upload_pixels`: of an uploaded or downloaded picture.
    `upload_bytes`, `upload_seconds`: how much of what was uploaded is kept, and how long, for further pages.
    `body_seconds`: how long a client may take to send its request. `send_seconds`: to take a part of the answer.
    `header_seconds`: to send the head of a request. `max_connections`: open at once.
    `thumbnails`: the folder of the thumbnail cache. `thumbnail_bytes`: its size at most.
    `idle_seconds`: models and child processes that nobody used for so long are let go.
    `max_jobs`: how many jobs may wait.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    device: str = "auto"
    searches: int = field(default_factory=lambda: max(2, available_cores()))
    queue: int = 512
    queue_seconds: float = 30.0
    max_request_bytes: int = 64 * 1024 * 1024
    max_json_bytes: int = 1024 * 1024
    max_upload_pixels: int = 100_000_000
    upload_bytes: int = 512 * 1024 * 1024
    upload_seconds: float = 3600.0
    body_seconds: float = 60.0
    send_seconds: float = 60.0
    header_seconds: float = 10.0
    max_connections: int = 1000
    thumbnails: Path = field(default_factory=_cache_folder)
    thumbnail_bytes: int = 1024**3
    idle_seconds: float = 900.0
    max_jobs: int = 20

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
