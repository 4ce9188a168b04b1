"""Serve picture files as they are, in a way that no browser can take for anything but a picture."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from clipkit.errors import UnreadableImage
from clipkit.images.file_access import open_regular
from clipkit.images.opening import format_of
from clipkit.server.problems import NotFound

SHOWN = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "BMP": "image/bmp",
}
"""Formats that browsers show. Everything else is a download: what a file is named never decides."""

KEEP = "private, max-age=31536000, immutable"
REVALIDATE = "private, no-cache"


def original(request: Request, path: Path, tag: str) -> Response:
    """Return a file, or the part of it that a Range header asks for, or 304 if the client has it.

    `tag`: what identifies the content.
    Raises NotFound if the file is not there now.
    """
    headers = cache_headers(request, tag)
    if is_known(request, tag):
        return Response(status_code=304, headers=headers)
    try:
        file, status = open_regular(path)
        with file:
            kind = SHOWN.get(format_of(file.read(64)) or "")
    except UnreadableImage as error:
        raise NotFound(f"the file cannot be read at the moment: {error.reason}") from error
    except OSError as error:
        raise NotFound("the file cannot be read at the moment") from error
    name = path.name.encode("utf-8", "replace").decode()
    disposition = "inline" if kind else "attachment"
    headers["Content-Disposition"] = f"{disposition}; filename*=utf-8''{quote(name, safe='')}"
    return FileResponse(path, headers=headers, media_type=kind or "application/octet-stream", stat_result=status)


def picture(request: Request, data: bytes, tag: str) -> Response:
    """Return a WebP picture."""
    return Response(data, headers=cache_headers(request, tag), media_type="image/webp")


def is_known(request: Request, tag: str) -> bool:
    """Return whether the client says that it has this content."""
    given = request.headers.get("if-none-match", "")
    return given.strip() == "*" or f'"{tag}"' in [part.strip().removeprefix("W/") for part in given.split(",")]


def cache_headers(request: Request, tag: str) -> dict[str, str]:
    """Return headers by which a client keeps the answer: for good if the URL names the content, else after asking."""
    versioned = (request.query_params.get("v") or "-") == tag.partition("-")[0][:12]
    return {"ETag": f'"{tag}"', "Cache-Control": KEEP if versioned else REVALIDATE}
