"""Who may ask what: the Host and Origin of a request, the token, and the headers of every answer.

A page of another site in the user's browser can send requests to this server. It must not read an answer or change
anything, even if its name resolves to this machine (DNS rebinding):

- The Host header must name this server, so a foreign name that resolves here is refused.
- Requests that another site makes are refused by their Origin or Sec-Fetch-Site, except to open a page.
- What changes something needs the header X-Clipkit, which another site cannot set without asking (CORS), and nobody is
  ever told yes.
- Off this machine a token is needed: as a bearer token, or in a cookie that opening the page with ?token= sets.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipkit.server.problems import Problem, problem_response
from clipkit.server.settings import LOOPBACK_NAMES, ServerSettings

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HEADER = "X-Clipkit"

_PAGE_CSP = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_DATA_CSP = "default-src 'none'; frame-ancestors 'none'; sandbox"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Security:
    """ASGI middleware that refuses what is not allowed, and adds the headers that browsers obey."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app, self.settings = app, settings
        self._names = _allowed_names(settings)
        self._cookie = f"clipkit_{settings.port}"  # cookies are shared by all ports of a host
        self._session = session_of(settings.token) if settings.token else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                kind = headers.get("content-type", "")
                is_page = kind.startswith("text/html") or request.url.path.startswith("/static/")
                headers.setdefault("Content-Security-Policy", _PAGE_CSP if is_page else _DATA_CSP)
            await send(message)

        try:
            answer: ASGIApp = self._entered(request) or self.app
        except Problem as problem:
            answer = problem_response(problem)
        await answer(scope, receive, send_with_headers)

    def _entered(self, request: Request) -> Response | None:
        """Raise a Problem for what is refused; return the redirect that sets the cookie, or None to go on."""
        self._check_host(request)
        self._check_site(request)
        if request.method not in SAFE_METHODS and request.headers.get(HEADER) != "1":
            raise Problem(403, "header-missing", f"requests that change something need the header {HEADER}: 1")
        if not self.settings.token or request.url.path == "/healthz":
            return None
        given = request.query_params.get("token")
        if given is not None and request.method == "GET" and not request.url.path.startswith("/api/"):
            if not _same(given, self.settings.token):
                raise _no_token()
            return self._with_cookie(request)
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(bearer.strip(), self.settings.token):
            return None
        if _same(request.cookies.get(self._cookie, ""), self._session):
            return None
        raise _no_token()

    def _check_host(self, request: Request) -> None:
        name = _host_name(request.headers.get("host", ""))
        if name in self._names or (not self.settings.is_loopback and _is_address(name)):
            return  # an address cannot be rebound
        raise Problem(
            421, "wrong-host", "this server does not answer to that name; `clipkit serve --allow-host NAME` allows it"
        )

    def _check_site(self, request: Request) -> None:
        origin = request.headers.get("origin")
        if origin is not None and _netloc(origin) != request.headers.get("host", "").lower():
            raise Problem(403, "foreign-origin", "requests of other sites are refused")
        site = request.headers.get("sec-fetch-site", "none")
        opens_page = (
            request.method == "GET"
            and request.headers.get("sec-fetch-mode") == "navigate"
            and not request.url.path.startswith("/api/")
        )
        if site not in ("none", "same-origin") and not opens_page:
            raise Problem(403, "foreign-origin", "requests of other sites are refused")

    def _with_cookie(self, request: Request) -> Response:
        rest = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
        # The path alone, one slash in front: "//name" would be another host.
        place = "/" + request.url.path.lstrip("/") + (f"?{urlencode(rest)}" if rest else "")
        response = RedirectResponse(place, 303, headers={"Cache-Control": "no-store"})
        response.set_cookie(
            self._cookie,
            self._session,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path="/",
        )
        return response


def session_of(token: str) -> str:
    """Return what the cookie holds instead of the token itself."""
    return hmac.new(token.encode(), b"clipkit session", hashlib.sha256).hexdigest()


def _allowed_names(settings: ServerSettings) -> frozenset[str]:
    names = {*LOOPBACK_NAMES, *(name.lower() for name in settings.allowed_hosts)}
    if not settings.is_loopback:
        own = socket.gethostname().lower()
        names |= {settings.host.lower(), own, f"{own.partition('.')[0]}.local"}
    return frozenset(names)


def _host_name(header: str) -> str:
    """Return the name in a Host header without the port and brackets; empty if it is malformed."""
    try:
        return (urlsplit(f"//{header}").hostname or "") if "/" not in header and "@" not in header else ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode("utf-8", "surrogateescape"))


def _no_token() -> Problem:
    return Problem(
        401,
        "token-missing",
        "open the address that `clipkit serve` printed, which carries the token, or send it as a bearer token",
        {"WWW-Authenticate": 'Bearer realm="clipkit"'},
    )
