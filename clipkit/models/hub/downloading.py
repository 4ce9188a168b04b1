"""Downloading files from the model hub into its cache: resumed after an interruption, verified by checksum.

huggingface_hub downloads into a randomly named file, deletes it on failure, and compares sizes only. clipkit downloads
with the same client, but into a file that the next attempt finds, and moves it into the cache only if its checksum is
the one that the hub lists. Other programs find the file where they expect it.
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

from clipkit.errors import ClipkitError, DownloadFailed, first_line
from clipkit.models.hub.cache import YES, endpoint, hub_cache, repository_folder
from clipkit.progress import Progress, ProgressCallback

Report = Callable[[int], None]
"""Called with the number of bytes received; negative when partial data is discarded."""

BLOCK_BYTES = 1 << 20
MEGABYTE = 1_000_000
PROGRESS_INTERVAL_S = 0.1


@dataclass(frozen=True)
class HubFile:
    """A file of a repository at one commit.

    digest: checksum in hex as the hub lists it: SHA-256 for large files, git's SHA-1 of the blob for small ones; its
        length tells which.
    """

    repository: str
    commit: str
    name: str
    size: int
    digest: str

    @property
    def path(self) -> Path:
        """The file's place in the snapshot."""
        return repository_folder(self.repository) / "snapshots" / self.commit / self.name

    @property
    def blob(self) -> Path:
        """The file that holds the content."""
        return repository_folder(self.repository) / "blobs" / self.digest

    @property
    def partial(self) -> Path:
        """The file that a download writes to."""
        return self.blob.with_name(f"{self.digest}.clipkit-incomplete")


def listing(repository: str, revision: str = "main") -> list[HubFile]:
    """List the files of a repository, of its main branch or a commit.

    Raises the errors of huggingface_hub and its HTTP client.
    """
    from huggingface_hub import HfApi

    info = HfApi(endpoint=endpoint()).model_info(repository, revision=revision, files_metadata=True, timeout=20)
    files = []
    for sibling in info.siblings or ():
        lfs = sibling.lfs
        digest = (lfs["sha256"] if isinstance(lfs, dict) else lfs.sha256) if lfs else sibling.blob_id
        files.append(HubFile(repository, info.sha or "", sibling.rfilename, sibling.size or 0, digest or ""))
    return files


def download(file: HubFile, report: Report = lambda count: None) -> Path:
    """Download a file into the hub's cache unless it is there already; return its path in the snapshot.

    Partial data is kept for the next attempt. Raises DownloadFailed if the checksum does not match or another process
    is downloading the file, and the errors of huggingface_hub and its HTTP client.
    """
    if not file.digest:
        raise DownloadFailed(
            f"{endpoint()} lists no checksum for {file.name} of {file.repository}, so it cannot be verified"
        )
    locks = hub_cache() / ".locks" / repository_folder(file.repository).name
    for folder in (file.blob.parent, locks):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(locks / f"{file.digest}.clipkit.lock", timeout=0):
            if _is_intact(file.blob, file.digest) or _is_intact(file.path, file.digest):
                report(file.size)
            else:
                _fetch(file, report)
            return _link(file)
    except Timeout:
        raise DownloadFailed(
            f"another process is downloading {file.name} of {file.repository}; wait until it has finished"
        ) from None


def download_all(
    files: Sequence[HubFile], what: str, progress: ProgressCallback | None = None, *, set_main: bool = True
) -> None:
    """Download files, then make their commits the main branch of the cache. Raises the errors of `download`.

    `set_main`: False leaves the main branch alone, for files of a commit that may not be on it.

    Progress is reported in megabytes, as the download of `what`.
    """
    meter = _Meter(what, sum(file.size for file in files), progress)
    for file in files:
        download(file, meter.add)
    for repository, commit in {file.repository: file.commit for file in files if set_main}.items():
        _set_main(repository, commit)


def digest_of(path: Path, like: str) -> str:
    """Compute a file's checksum in hex, of the same kind as `like`: SHA-256, or git's SHA-1 of the blob."""
    digest = hashlib.sha256()
    if len(like) == 40:
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _is_intact(path: Path, digest: str) -> bool:
    """Return whether a file exists with that checksum; delete it if it does not match."""
    if path.is_file() and digest_of(path, digest) == digest:
        return True
    path.unlink(missing_ok=True)  # also removes a dangling symlink
    return False


def _fetch(file: HubFile, report: Report) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, disable_progress_bars

    disable_progress_bars("huggingface_hub.http_get")
    url = hf_hub_url(file.repository, file.name, revision=file.commit, endpoint=endpoint())
    with file.partial.open("ab") as stream:
        received = stream.tell()
        if received > file.size:
            stream.truncate(0)
            received = 0
        report(received)
        with _quiet():
            http_get(
                url,
                cast(BinaryIO, _ReportingFile(stream, report)),
                resume_size=received,
                headers=build_hf_headers(),
                expected_size=file.size,
            )
        stream.flush()
        os.fsync(stream.fileno())
    if digest_of(file.partial, file.digest) != file.digest:
        file.partial.unlink()
        raise DownloadFailed(
            f"the checksum of {file.name} of {file.repository} does not match, and the download was discarded; run the "
            "command again, or try another network or mirror"
        )
    os.replace(file.partial, file.blob)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of huggingface_hub about each attempt; its final failure is raised."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


class _ReportingFile:
    """A file that reports every block written to it, with the methods that huggingface_hub's `http_get` uses."""

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
        after = self._stream.truncate(size)
        self._report(after - max(before, after))
        return after


def _link(file: HubFile) -> Path:
    """Put the file into its snapshot without storing it twice.

    Like huggingface_hub: a relative symlink where possible; a hard link where symlinks are not allowed, as by default
    on Windows; otherwise the blob itself is moved. A file that is already in the snapshot stays.
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
    """Create a symlink. Raises OSError if the system does not allow it or $HF_HUB_DISABLE_SYMLINKS is set."""
    if os.environ.get("HF_HUB_DISABLE_SYMLINKS", "").upper() in YES:
        raise OSError("symlinks are disabled")
    os.symlink(target, path)


def _set_main(repository: str, commit: str) -> None:
    """Point the cache's main branch to a commit whose files have all been downloaded."""
    refs = repository_folder(repository) / "refs"
    refs.mkdir(parents=True, exist_ok=True)
    temporary = refs / f"main.{os.getpid()}.{time.monotonic_ns()}"
    temporary.write_text(commit, "utf-8")
    os.replace(temporary, refs / "main")


class _Meter:
    """A counter of bytes that reports progress in megabytes, at most every `PROGRESS_INTERVAL_S`."""

    def __init__(self, what: str, total: int, progress: ProgressCallback | None) -> None:
        self._total, self._done, self._progress = total, 0, progress
        self._stage, self._started, self._reported = f"downloading {what}, MB", time.monotonic(), 0.0

    def add(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if self._progress and (now - self._reported > PROGRESS_INTERVAL_S or self._done >= self._total):
            self._reported = now
            done, total = self._done // MEGABYTE, max(1, self._total // MEGABYTE)
            self._progress(Progress(self._stage, done, total, done / max(1e-9, now - self._started)))


@contextmanager
def translate_download_errors(what: str, alternative: str) -> Iterator[None]:
    """Raise errors of huggingface_hub and its HTTP client as a DownloadFailed of one line that says what to do.

    what: the thing that is downloaded, as in "the {what}".
    alternative: how to go on without the hub, as in "run the command again, or {alternative}".
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        yield
    except ClipkitError:
        raise
    except GatedRepoError as error:
        raise DownloadFailed(f"the {what} is gated: accept its terms at {endpoint()} first") from error
    except RepositoryNotFoundError as error:
        raise DownloadFailed(f"{endpoint()} has no {what}, or it is private: check the name") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise DownloadFailed(
            f"could not download the {what}: {endpoint()} answered with {status}; run the command again later to "
            f"resume, or {alternative}"
        ) from error
    except Exception as error:
        if not _is_network_error(error):
            raise
        cause = "offline mode is on" if isinstance(error, OfflineModeIsEnabled) else first_line(error)
        raise DownloadFailed(
            f"could not download the {what} from {endpoint()} ({cause}); run the command again to resume, or "
            f"{alternative}"
        ) from error


def _is_network_error(error: BaseException) -> bool:
    """Return whether an HTTP client raised the error. Which client it is depends on the version of huggingface_hub,
    and their errors have no common base class."""
    clients = ("requests", "urllib3", "httpx", "httpcore", "huggingface_hub", "h11")
    return isinstance(error, OSError) or any(
        kind.__module__.partition(".")[0].startswith(clients) for kind in type(error).__mro__
    )
