"""Find picture files below folders: lazily, in a stable order, and safe against symlink loops."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, TypeVar

from clipkit.errors import FailureKind
from clipkit.images.extensions import EXTENSIONS
from clipkit.images.failure_causes import ACCESS, NOT_A_FILE
from clipkit.images.file_access import describe_os_error, describe_special_file, modified_ns

# Copies, thumbnails and trash folders that NAS devices, archivers and operating systems leave next to pictures.
_IGNORED_FOLDERS = frozenset(
    ("@eadir", "#recycle", "#snapshot", "@recycle", "__macosx", "node_modules", "lost+found", "$recycle.bin")
) | {"system volume information"}


class FoundFile(NamedTuple):
    """A file with a picture's extension: absolute `name`, `size` in bytes, `mtime_ns` as `modified_ns` returns it.

    It is a plain tuple with a string, because a library may have millions of files of which none has changed.
    """

    name: str
    size: int
    mtime_ns: int

    @property
    def path(self) -> Path:
        """The name as a path."""
        return Path(self.name)


@dataclass(frozen=True, slots=True)
class Problem:
    """A path that cannot be read; `kind` is for programs, `reason` for people.

    `cause`: `ACCESS` if the system denies access, `NOT_A_FILE` if it is not a file.
    """

    path: Path
    kind: FailureKind
    reason: str
    cause: str = NOT_A_FILE


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder on another drive than its parent: a mount point, or a symlink to another drive."""

    path: Path


_ON_WINDOWS = os.name == "nt"
_Identity = tuple[int, int] | str
_Matcher = Callable[[str, str, bool], bool] | None
"""Whether the globs exclude a path, its path below the root, and whether it is a folder; None without globs."""
_T = TypeVar("_T", bound="os.DirEntry[str] | FoundFile | Problem")


def walk(
    roots: Iterable[Path], exclude: Sequence[str] | Mapping[Path, Sequence[str]] = ()
) -> Iterator[FoundFile | Problem | Mount]:
    """Yield the picture files below `roots`, paths that cannot be read, and mount points.

    A root is a folder or a single file with any extension. A folder yields first its files, then its subfolders, each
    sorted by name. Symlinks are followed; a folder reached twice is walked once, and a root inside another root is
    walked as a root. Below a root, hidden files and folders are skipped, and so are the folders of NAS devices and
    archivers (`@eaDir`, `__MACOSX`, ...).

    `exclude`: globs, for all roots or per root. `*` and `?` do not match `/`, `**` does, `[...]` is a character set,
    and a trailing `/` matches only folders. A glob is matched against the name, the path relative to the root and, if
    it is absolute, the whole path. Excluded folders are not entered. A folder given as a root is never excluded; a file
    given as a root can be.

    Memory holds the names in one folder and the identity of every folder seen, never the list of files. Paths are
    absolute but not resolved, so that users recognise them.
    """
    return _walk(roots, exclude, _examine_entry)


def count(
    roots: Iterable[Path], exclude: Sequence[str] | Mapping[Path, Sequence[str]], stopped: Callable[[], bool]
) -> int | None:
    """Return how many files and problems `walk` yields, or None as soon as `stopped` returns True.

    The system is not asked about each file, which would take most of the time.
    """
    total = 0
    for found in _walk(roots, exclude, lambda entry: entry):
        if stopped():
            return None
        total += not isinstance(found, Mount)
    return total


def _walk(
    roots: Iterable[Path],
    exclude: Sequence[str] | Mapping[Path, Sequence[str]],
    examine: Callable[[os.DirEntry[str]], _T],
) -> Iterator[_T | FoundFile | Problem | Mount]:
    """`walk`, with `examine` called for each picture file below a root that is a folder."""
    matchers: dict[str, _Matcher] = {}
    by_globs: dict[tuple[str, ...], _Matcher] = {}
    for named in roots:
        globs = tuple(exclude.get(Path(named), ()) if isinstance(exclude, Mapping) else exclude)
        if globs not in by_globs:
            by_globs[globs] = _matcher(globs)
        matchers.setdefault(os.path.abspath(named), by_globs[globs])
    # A file may be a root and also lie below another root: it is yielded once, as a root.
    single_files = {root for root in matchers if os.path.isfile(root)}
    # So may a folder, perhaps under another path: it is walked as a root, with its own globs.
    owners: dict[_Identity, str] = {}
    for root in matchers:
        with contextlib.suppress(OSError, ValueError):
            owners.setdefault(_identity(root, os.stat(root)), root)
    seen_folders: set[_Identity] = set()
    for root, excluded in matchers.items():
        try:
            status = os.stat(root)
        except (OSError, ValueError) as error:
            yield _problem(root, error)
            continue
        if stat.S_ISDIR(status.st_mode):
            below = _walk_folder(root, excluded, seen_folders, owners, examine)
            if single_files:
                below = (found for found in below if os.fspath(found.path) not in single_files)
            yield from below
        elif not stat.S_ISREG(status.st_mode):
            yield Problem(Path(root), "unreadable", describe_special_file(status.st_mode))
        elif not (excluded and excluded(root, os.path.basename(root), False)):
            yield FoundFile(root, status.st_size, modified_ns(status))


def _walk_folder(
    root: str,
    excluded: _Matcher,
    seen_folders: set[_Identity],
    owners: Mapping[_Identity, str],
    examine: Callable[[os.DirEntry[str]], _T],
) -> Iterator[_T | Problem | Mount]:
    # A stack, not recursion: trees may be deeper than Python's recursion limit.
    waiting: list[tuple[str, str, int | None]] = [(root, "", None)]
    while waiting:
        folder, below_root, device_above = waiting.pop()
        try:
            status = os.stat(folder)  # not DirEntry.stat(), whose inode is 0 on Windows
            identity = _identity(folder, status)
            if identity in seen_folders or (identity in owners and not folder == root == owners[identity]):
                continue
            seen_folders.add(identity)
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=attrgetter("name"))
        except OSError as error:
            yield _problem(folder, error)
            continue
        if device_above not in (None, status.st_dev):
            yield Mount(Path(folder))
        folders: list[tuple[str, str, int | None]] = []
        for entry in entries:
            name = entry.name
            if name[0] == "." or (_ON_WINDOWS and _has_hidden_attribute(entry)):
                continue
            is_picture = name[name.rfind(".") :].lower() in EXTENSIONS
            if entry.is_file(follow_symlinks=False):  # nearly all entries, so they get the shortest way
                if is_picture and not (excluded and excluded(entry.path, below_root + name, False)):
                    yield examine(entry)
                continue
            relative = below_root + name
            try:
                is_folder = entry.is_dir()
                broken = None
            except OSError as error:
                is_folder, broken = False, error
            if is_folder and name.lower() in _IGNORED_FOLDERS:
                continue
            if excluded and excluded(entry.path, relative, is_folder):
                continue
            if is_folder:
                folders.append((entry.path, f"{relative}/", status.st_dev))
            if not is_picture:
                if broken and broken.errno != errno.ELOOP:  # it may be a folder on a drive that does not respond
                    yield _problem(entry.path, broken)
                continue
            if is_folder:
                yield Problem(Path(entry.path), "directory", "it is a folder that is named like a picture")
                continue
            yield examine(entry)
        waiting.extend(reversed(folders))


def _examine_entry(entry: os.DirEntry[str]) -> FoundFile | Problem:
    try:
        status = entry.stat()
    except OSError as error:
        if _is_link(entry):
            problem = _problem(entry.path, error)
            if problem.kind == "vanished":
                return Problem(problem.path, "vanished", "it is a dangling symlink")
            return problem
        return _problem(entry.path, error)
    if stat.S_ISREG(status.st_mode):
        return FoundFile(entry.path, status.st_size, modified_ns(status))
    return Problem(Path(entry.path), "unreadable", describe_special_file(status.st_mode))


def _is_link(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_symlink()
    except OSError:
        return False


def _problem(path: str, error: OSError | ValueError) -> Problem:
    if isinstance(error, OSError):
        kind, reason = describe_os_error(error)
        if kind == "vanished":
            reason = "there is no such file or folder"
        return Problem(Path(path), kind, reason, ACCESS)
    return Problem(Path(path), "unreadable", "the system cannot open a file of this name")


def _identity(folder: str, status: os.stat_result) -> _Identity:
    """Return a key that identifies a folder under any path; the real path where a file system has no inodes."""
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)


def _has_hidden_attribute(entry: os.DirEntry[str]) -> bool:
    try:
        attributes = getattr(entry.stat(follow_symlinks=False), "st_file_attributes", 0)
    except OSError:
        return False
    return bool(attributes & getattr(stat, "FILE_ATTRIBUTE_HIDDEN", 2))


def _matcher(globs: Sequence[str]) -> _Matcher:
    patterns = []
    for glob in globs:
        glob = glob.replace("\\", "/") if os.name == "nt" else glob
        folders_only = glob.endswith("/") and len(glob) > 1
        flags = re.DOTALL | (re.IGNORECASE if os.name == "nt" else 0)
        glob = glob.rstrip("/") if folders_only else glob.removeprefix("./")
        patterns.append((re.compile(_glob_to_regex(glob), flags).fullmatch, folders_only))

    if not patterns:
        return None

    def excluded(path: str, relative: str, is_folder: bool) -> bool:
        name = relative.rpartition("/")[2]
        whole = path.replace("\\", "/") if os.name == "nt" else path
        return any(
            (is_folder or not folders_only) and (match(name) or match(relative) or match(whole))
            for match, folders_only in patterns
        )

    return excluded


def _glob_to_regex(glob: str) -> str:
    """Translate a glob to a regular expression. Python's `glob.translate`, which supports `**`, requires 3.13."""
    out, position = [], 0
    while position < len(glob):
        if glob.startswith("**/", position) and (position == 0 or glob[position - 1] == "/"):
            out.append("(?:.*/)?")
            position += 3
        elif glob.startswith("**", position):
            out.append(".*")
            position += 2
        elif glob[position] == "*":
            out.append("[^/]*")
            position += 1
        elif glob[position] == "?":
            out.append("[^/]")
            position += 1
        elif glob[position] == "[" and (end := glob.find("]", position + 2)) > 0:
            chosen = glob[position + 1 : end]
            negated = chosen[0] in "!^" and len(chosen) > 1
            body = re.sub(r"([\\\[\]^&~|])", r"\\\1", chosen[negated:])
            out.append(_character_set(body, negated))
            position = end + 1
        else:
            out.append(re.escape(glob[position]))
            position += 1
    return "".join(out)


def _character_set(body: str, negated: bool) -> str:
    candidate = f"[^/{body}]" if negated else f"(?!/)[{body}]"
    try:
        re.compile(candidate)
    except re.error:  # a reversed range such as [z-a] matches nothing
        return "[^/]" if negated else "(?!)"
    return candidate
