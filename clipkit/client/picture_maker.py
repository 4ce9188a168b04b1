"""The part of a client that makes pictures in the server's library, as jobs whose progress it follows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from clipkit.catalog.generated import Generated
from clipkit.client.answered import to_generated
from clipkit.client.sent_query import SentQuery
from clipkit.client.transport import Transport
from clipkit.generation.operations.sources import Source, is_number_of_picture, names_picture
from clipkit.searching.query import Query, as_query, is_picture, is_url

if TYPE_CHECKING:
    from clipkit.generation.job import SamplingOptions
    from clipkit.generation.operations.blend import Blend
    from clipkit.generation.operations.masks import MaskLike
    from clipkit.generation.operations.sources import Reference


class PictureMaker:
    """Generates pictures and operates on them; see `Client`.

    A picture is the id of a hit, "generated:N", a URL, or a picture of this machine, which is uploaded. Interrupting a
    method cancels its job.
    """

    def __init__(self, server: Transport) -> None:
        self._server = server

    def generate(
        self, query: Query | str, n: int = 1, *, steps: int | None = None, **options: Unpack[SamplingOptions]
    ) -> list[Generated]:
        """Generate n pictures of the query in the server's library, as `Library.generate` does."""
        return self._made("generate", {**self._sent(as_query(query)).body(), "n": n, "steps": steps}, options)

    def vary(
        self,
        picture: Reference,
        n: int = 4,
        *,
        strength: float = 1.0,
        steps: int | None = None,
        **options: Unpack[SamplingOptions],
    ) -> list[Generated]:
        """Generate n variations of a picture in the server's library, as `Library.vary` does."""
        return self._made("vary", self._start(picture, n, steps) | {"strength": strength}, options)

    def blend(
        self,
        items: Sequence[Reference],
        steps: int = 5,
        *,
        weights: Sequence[float] | None = None,
        denoising_steps: int | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Blend:
        """Blend pictures and texts in the server's library, as `Library.blend` does."""
        from clipkit.generation.operations.blend import Blend

        sent = [self._reference(item) if names_picture(item) else {"text": str(item)} for item in items]
        body = {
            "items": sent,
            "steps": steps,
            "weights": None if weights is None else list(weights),
            "denoising_steps": denoising_steps,
        }
        done = self._run("blend", body, options)
        strip = to_generated(done["strip"]) if done["strip"] else None
        return Blend(tuple(to_generated(one) for one in done["generated"]), strip)

    def restyle(
        self,
        picture: Reference,
        from_: str,
        to: str,
        n: int = 1,
        *,
        amount: float | None = None,
        strength: float | None = None,
        steps: int | None = None,
        **options: Unpack[SamplingOptions],
    ) -> list[Generated]:
        """Change a picture from what one text says to what another says, as `Library.restyle` does."""
        own = {"from": from_, "to": to, "amount": amount, "strength": strength}
        return self._made("restyle", self._start(picture, n, steps) | own, options)

    def edit(
        self,
        picture: Reference,
        text: str,
        n: int = 1,
        *,
        mask: MaskLike | None = None,
        box: Sequence[int] | None = None,
        steps: int | None = None,
        **options: Unpack[SamplingOptions],
    ) -> list[Generated]:
        """Paint what a text says into a part of a picture, as `Library.edit` does."""
        own = {
            "text": text,
            "mask": None if mask is None else self._reference(mask),
            "box": None if box is None else list(box),
        }
        return self._made("edit", self._start(picture, n, steps) | own, options)

    def extend(
        self,
        picture: Reference,
        text: str = "",
        n: int = 1,
        *,
        left: int = 0,
        right: int = 0,
        top: int = 0,
        bottom: int = 0,
        steps: int | None = None,
        **options: Unpack[SamplingOptions],
    ) -> list[Generated]:
        """Continue a picture beyond its edges, as `Library.extend` does."""
        own = {"text": text, "left": left, "right": right, "top": top, "bottom": bottom}
        return self._made("extend", self._start(picture, n, steps) | own, options)

    def download(self, picture: Generated, path: str | Path) -> None:
        """Write the file of a generated picture to `path` on this machine, with all its marks."""
        Path(path).write_bytes(self._server.request("GET", f"/api/generated/{picture.id}/original"))

    def _sent(self, query: Query) -> SentQuery:
        """Return the query as the server reads it, its pictures uploaded."""
        return SentQuery(
            text=query.text,
            also=list(query.also),
            like=[self._picture(picture) for picture in query.like],
            avoid=[self._picture(value) if is_picture(value) else str(value) for value in query.not_],
            weights=[abs(term.weight) for term in query.terms()],
        )

    def _start(self, picture: Reference, n: int, steps: int | None) -> dict[str, Any]:
        """Return what most operations are told."""
        return {"picture": self._reference(picture), "n": n, "steps": steps}

    def _made(self, operation: str, body: dict[str, Any], options: SamplingOptions) -> list[Generated]:
        """Run a job, and return the pictures that it made."""
        return [to_generated(one) for one in self._run(operation, body, options)["generated"]]

    def _run(self, operation: str, body: dict[str, Any], options: SamplingOptions) -> dict[str, Any]:
        settings = {name: value for name, value in options.items() if name != "progress"}
        return self._server.run_job(f"/api/{operation}", body | settings, options.get("progress"))

    def _reference(self, picture: Reference | MaskLike) -> int | str:
        """Return what names a picture to the server; one of this machine is uploaded."""
        if isinstance(picture, int) or (isinstance(picture, str) and is_number_of_picture(picture)):
            return picture
        return self._picture(picture.data if isinstance(picture, Source) else picture)

    def _picture(self, picture: Any) -> str:
        """Return what names a picture of a query to the server; one of this machine is uploaded."""
        return picture if is_url(picture) else f"upload:{self._server.upload(picture)}"
