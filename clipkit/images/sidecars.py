"""Read XMP sidecar files, which photo managers write next to a picture."""

from __future__ import annotations

import contextlib
from pathlib import Path

from clipkit.errors import UnreadableImage
from clipkit.images.file_access import open_regular
from clipkit.images.metadata_record import Metadata, merge_metadata
from clipkit.images.xmp import MAX_PACKET_BYTES, read_xmp


def read_sidecars(path: Path) -> Metadata:
    """Read `picture.jpg.xmp` and `picture.xmp` of `picture.jpg`; the first takes precedence."""
    sources = []
    for name in dict.fromkeys((f"{path.name}.xmp", f"{path.name}.XMP", f"{path.stem}.xmp", f"{path.stem}.XMP")):
        with contextlib.suppress(UnreadableImage, OSError):
            file, _ = open_regular(path.with_name(name))
            with file:
                sources.append(read_xmp(file.read(MAX_PACKET_BYTES)))
    return merge_metadata(*sources)
