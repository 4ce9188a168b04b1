"""Counts and times of requests, in the text format of Prometheus."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping

import psutil
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histogram of times, in seconds."""

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """ASGI middleware that counts and times requests by endpoint; streams of events are counted, not timed."""

    def __init__(self) -> None:
        self.requests: Counter[Labels] = Counter()
        self.buckets: Counter[tuple[str, float]] = Counter()
        self.seconds: Counter[str] = Counter()
        self.count: Counter[str] = Counter()
        self.in_flight = 0
        self._lock = threading.Lock()

    def around(self, app: ASGIApp) -> ASGIApp:
        """Return the application with its requests counted."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            status, began = 0, time.perf_counter()

            async def noting_send(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            self.in_flight += 1
            try:
                await app(scope, receive, noting_send)
            finally:
                self.in_flight -= 1
                # The endpoint, not the path: every id would be a series of its own.
                endpoint = getattr(scope.get("endpoint"), "__name__", "none")
                self.note(endpoint, scope["method"], status, time.perf_counter() - began)

        return counted

    def note(self, endpoint: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        # Only known methods: a client may invent others.
        method = method if method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS") else "other"
        with self._lock:
            self.requests[("endpoint", endpoint), ("method", method), ("status", str(status))] += 1
            if endpoint == "events":
                return
            self.seconds[endpoint] += seconds  # type: ignore[assignment]
            self.count[endpoint] += 1
            for bound in BUCKETS:
                if seconds <= bound:
                    self.buckets[endpoint, bound] += 1

    def text(self, others: Mapping[str, tuple[str, Iterable[tuple[Labels, float]]]]) -> str:
        """Return everything as text; others: name -> (help, samples), counters if the name ends with "_total"."""
        with self._lock:
            lines = _series(
                "clipkit_requests_total", "counter", "Requests by endpoint, method and status.", self.requests.items()
            )
            name = "clipkit_request_seconds"
            lines += [f"# HELP {name} Time to answer, by endpoint.", f"# TYPE {name} histogram"]
            for endpoint, count in sorted(self.count.items()):
                for bound in BUCKETS:
                    labels = (("endpoint", endpoint), ("le", f"{bound:g}"))
                    lines.append(f"{name}_bucket{_labels(labels)} {self.buckets[endpoint, bound]}")
                own = (("endpoint", endpoint),)
                lines.append(f"{name}_bucket{_labels((*own, ('le', '+Inf')))} {count}")
                lines.append(f"{name}_sum{_labels(own)} {self.seconds[endpoint]:.6f}")
                lines.append(f"{name}_count{_labels(own)} {count}")
        lines += _series("clipkit_requests_in_flight", "gauge", "Requests being answered.", [((), self.in_flight)])
        memory = psutil.Process().memory_info().rss
        lines += _series("process_resident_memory_bytes", "gauge", "Memory of the server process.", [((), memory)])
        for name, (explanation, samples) in others.items():
            lines += _series(name, "counter" if name.endswith("_total") else "gauge", explanation, samples)
        return "\n".join(lines) + "\n"


def _series(name: str, kind: str, explanation: str, samples: Iterable[tuple[Labels, float]]) -> list[str]:
    values = [f"{name}{_labels(labels)} {value:g}" for labels, value in sorted(samples)]
    return [f"# HELP {name} {explanation}", f"# TYPE {name} {kind}", *values]


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""
