"""One file from the model hub into its cache: resumed where it broke off, and checked by its hash before it counts.

huggingface_hub downloads into a file of a random name, which it deletes when it fails, and compares sizes only. So the
bytes are fetched here, with its client, into a file that the next try finds again; the hash that the hub gives decides
whether they become a blob of the cache. Other programs then find the file where they expect it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from filelock import FileLock, Timeout

from clipkit.errors import ClipkitError, DownloadFailed
from clipkit.models.hub.cache import YES, endpoint, hub_cache, repository_folder
from clipkit.progress import Progress, ProgressCallback

Report = Callable[[int], None]
"""Told how many bytes more are there; less than nothing if some had to be thrown away."""

BLOCK = 1 << 20
MEGABYTE = 1_000_000
SHOWN_EVERY_S = 0.1


@dataclass(frozen=True)
class HubFile:
    """A file of a repository at one commit. `digest`: SHA-256 in hex for large files, git's SHA-1 of the blob for
    others, as the hub names them; the length tells which."""

    repository: str
    commit: str
    name: str
    size: int
    digest: str

    @property
    def path(self) -> Path:
        """Where the cache has it once it is downloaded."""
        return repository_folder(self.repository) / "snapshots" / self.commit / self.name

    @property
    def blob(self) -> Path:
        """The file of its bytes."""
        return repository_folder(self.repository) / "blobs" / self.digest

    @property
    def unfinished(self) -> Path:
        """What is there of it so far."""
        return self.blob.with_name(f"{self.digest}.clipkit-incomplete")


def listing(repository: str) -> list[HubFile]:
    """All files of a repository's main branch, with sizes and hashes. Errors are those of huggingface_hub and HTTP."""
    from huggingface_hub import HfApi

    info = HfApi(endpoint=endpoint()).model_info(repository, revision="main", files_metadata=True, timeout=20)
    files = []
    for found in info.siblings or ():
        lfs = found.lfs
        digest = (lfs["sha256"] if isinstance(lfs, dict) else lfs.sha256) if lfs else found.blob_id
        files.append(HubFile(repository, info.sha or "", found.rfilename, found.size or 0, digest or ""))
    return files


def download(file: HubFile, report: Report = lambda count: None) -> Path:
    """The file in the hub's cache, downloaded as far as it is not there; `report` gets bytes as they come.

    Raises DownloadFailed if the bytes are not those that the hub promises, or another process downloads them; errors
    of the network are those of huggingface_hub. What has come so far stays for the next try.
    """
    if not file.digest:
        raise DownloadFailed(f"{endpoint()} gives no hash for {file.name} of {file.repository}: it cannot be checked")
    locks = hub_cache() / ".locks" / repository_folder(file.repository).name
    for folder in (file.blob.parent, locks):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(locks / f"{file.digest}.clipkit.lock", timeout=0):
            if _is_right(file.blob, file.digest) or _is_right(file.path, file.digest):
                report(file.size)
            else:
                _fetch(file, report)
            return _link(file)
    except Timeout:
        raise DownloadFailed(f"another process is downloading {file.name} of {file.repository}; wait for it") from None


def download_all(files: Sequence[HubFile], what: str, progress: ProgressCallback | None = None) -> None:
    """Downloads files, and then makes their commits what the cache takes for the main branches. Raises as `download`.

    Progress is told in megabytes of `what`.
    """
    meter = _Meter(what, sum(file.size for file in files), progress)
    for file in files:
        download(file, meter.add)
    for repository, commit in {file.repository: file.commit for file in files}.items():
        _set_main(repository, commit)


def digest_of(path: Path, like: str) -> str:
    """The SHA-256 of a file, or git's SHA-1 of it as a blob, whichever `like` is by its length; in hex."""
    digest = hashlib.sha256()
    if len(like) == 40:
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _is_right(path: Path, digest: str) -> bool:
    """Whether the bytes that the hub promises lie there; others are thrown away."""
    if path.is_file() and digest_of(path, digest) == digest:
        return True
    path.unlink(missing_ok=True)  # a link that leads nowhere too
    return False


def _fetch(file: HubFile, report: Report) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, disable_progress_bars

    disable_progress_bars("huggingface_hub.http_get")
    url = hf_hub_url(file.repository, file.name, revision=file.commit, endpoint=endpoint())
    with file.unfinished.open("ab") as stream:
        there = stream.tell()
        if there > file.size:
            stream.truncate(0)
            there = 0
        report(there)
        with _quiet():
            http_get(
                url, cast(BinaryIO, _Reporting(stream, report)), resume_size=there, headers=build_hf_headers(),
                expected_size=file.size,
            )  # fmt: skip
        stream.flush()
        os.fsync(stream.fileno())
    if digest_of(file.unfinished, file.digest) != file.digest:
        file.unfinished.unlink()
        raise DownloadFailed(
            f"{file.name} of {file.repository} came with other bytes than the hub promises (its hash is wrong) and "
            "was thrown away; try again, and if it happens again, another network or mirror"
        )
    os.replace(file.unfinished, file.blob)


@contextmanager
def _quiet() -> Iterator[None]:
    """Its client warns of every try; what it gives up on is raised as well."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Reporting:
    """A file that tells of every block that is written to it; what huggingface_hub's `http_get` needs of one."""

    def __init__(self, stream: BinaryIO, report: Report) -> None:
        self._stream, self._report = stream, report

    def write(self, block: bytes) -> int:
        written = self._stream.write(block)
        self._report(written)
        return written

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, position: int, whence: int = 0) -> int:
        return self._stream.seek(position, whence)

    def truncate(self, size: int | None = None) -> int:
        before = os.fstat(self._stream.fileno()).st_size
        self._stream.flush()
        left = self._stream.truncate(size)
        self._report(left - max(before, left))
        return left


def _link(file: HubFile) -> Path:
    """Puts the file into its snapshot without taking its room on the disk twice.

    A relative symbolic link, as huggingface_hub makes it; where the system allows none, as Windows does by default, a
    hard link; where the file system knows neither, the blob itself is moved, as huggingface_hub does there. What it
    moved is left where it is.
    """
    if file.blob.is_file() and not (file.path.is_file() and file.path.samefile(file.blob)):
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.unlink(missing_ok=True)
        target = os.path.relpath(file.blob, file.path.parent)
        try:
            _symlink(target, file.path)
        except OSError:
            try:
                os.link(file.blob, file.path)
            except OSError:
                os.replace(file.blob, file.path)
    return file.path


def _symlink(target: str, path: Path) -> None:
    """Makes a symbolic link; raises OSError where there are none, or $HF_HUB_DISABLE_SYMLINKS forbids them."""
    if os.environ.get("HF_HUB_DISABLE_SYMLINKS", "").upper() in YES:
        raise OSError("symbolic links are switched off")
    os.symlink(target, path)


def _set_main(repository: str, commit: str) -> None:
    """Makes a commit, all of whose wanted files are there, what the cache takes for the main branch."""
    refs = repository_folder(repository) / "refs"
    refs.mkdir(parents=True, exist_ok=True)
    unfinished = refs / f"main.{os.getpid()}.{time.monotonic_ns()}"
    unfinished.write_text(commit, "utf-8")
    os.replace(unfinished, refs / "main")


class _Meter:
    """Bytes as progress, in megabytes, at most every `SHOWN_EVERY_S`."""

    def __init__(self, what: str, total: int, progress: ProgressCallback | None) -> None:
        self._total, self._done, self._progress = total, 0, progress
        self._stage, self._started, self._shown = f"downloading {what}, MB", time.monotonic(), 0.0

    def add(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if self._progress and (now - self._shown > SHOWN_EVERY_S or self._done >= self._total):
            self._shown = now
            done, total = self._done // MEGABYTE, max(1, self._total // MEGABYTE)
            self._progress(Progress(self._stage, done, total, done / max(1e-9, now - self._started)))


@contextmanager
def in_one_line(what: str, otherwise: str) -> Iterator[None]:
    """What huggingface_hub and its HTTP client raise over `what`, as a DownloadFailed of one line that says what to do;
    `otherwise` is the way on without the hub."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        yield
    except ClipkitError:
        raise
    except GatedRepoError as error:
        raise DownloadFailed(
            f"the {what} is given only to who has accepted its terms: do so on {endpoint()}"
        ) from error
    except RepositoryNotFoundError as error:
        raise DownloadFailed(f"{endpoint()} has no {what}, or it is private: check the name") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise DownloadFailed(
            f"{endpoint()} answers with {status} for the {what}; what has come is kept, try again later, or {otherwise}"
        ) from error
    except Exception as error:
        if not _is_of_the_network(error):
            raise
        cause = "offline mode is on" if isinstance(error, OfflineModeIsEnabled) else _first_line(error)
        raise DownloadFailed(
            f"the {what} does not come from {endpoint()} ({cause}); what has come is kept, the same command goes "
            f"on from there; offline, {otherwise}"
        ) from error


def _is_of_the_network(error: BaseException) -> bool:
    """The HTTP client differs by version of huggingface_hub (requests, httpx), and their errors have no common base."""
    clients = ("requests", "urllib3", "httpx", "httpcore", "huggingface_hub", "h11")
    return isinstance(error, OSError) or any(
        kind.__module__.partition(".")[0].startswith(clients) for kind in type(error).__mro__
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]
