"""Open untrusted files safely: regular files only, with a plain reason for every failure."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from clipkit.errors import FailureKind, UnreadableImage

_SPECIAL = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


def describe_special_file(mode: int) -> str:
    """Describe a file that is neither a regular file nor a folder, given its `st_mode`."""
    what = next((words for test, words in _SPECIAL if test(mode)), "a special file")
    return f"it is {what}, not a picture"


def describe_os_error(error: OSError) -> tuple[FailureKind, str]:
    """Return the failure kind and a one-line reason for an `OSError`."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "vanished", "the file no longer exists"
    if error.errno == errno.EISDIR:
        return "directory", "it is a folder, not a picture"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "unreadable", "permission denied"
    if error.errno == errno.ELOOP:
        return "unreadable", "its symlinks form a loop"
    words = (error.strerror or str(error) or type(error).__name__).strip().splitlines()[0]
    return "unreadable", f"could not read it ({words})"


def modified_ns(status: os.stat_result) -> int:
    """Return a file's modification time in nanoseconds, wrapped into SQLite's signed 64 bits.

    Dates before 1677 and after 2262 do not fit, and do occur. Wrapping, unlike clamping, keeps different dates
    different.
    """
    return (status.st_mtime_ns + 2**63) % 2**64 - 2**63


def is_absent(path: Path, *, follow_links: bool = True) -> bool:
    """Return whether nothing exists at a path. If access is denied, it counts as existing."""
    try:
        os.stat(path, follow_symlinks=follow_links)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        pass
    return False


def why_absent(path: Path) -> str | None:
    """Return a one-line message if nothing exists at a path; None if something does, readable or not.

    A path behind a folder without permission counts as existing.
    """
    try:
        os.stat(path)
    except ValueError:  # a name that no file system accepts
        return f"there is no file or folder {path}"
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        if os.path.islink(path):
            return f"{path} is a dangling symlink: there is no {os.readlink(path)}"
        return f"there is no file or folder {path}"
    return None


def open_regular(path: Path) -> tuple[BinaryIO, os.stat_result]:
    """Open a regular file for reading; return it with its stat.

    Raises `UnreadableImage` with kind "vanished", "directory" or "unreadable". It never blocks on a pipe or opens a
    device: the file type is checked before opening, and again after, in case the file was replaced in between.
    """
    try:
        _require_regular(path, os.stat(path).st_mode)
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
        # Without O_NONBLOCK, opening a pipe that replaced the file would block until a writer appears.
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
        try:
            status = os.fstat(descriptor)
            _require_regular(path, status.st_mode)
            return os.fdopen(descriptor, "rb"), status
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        raise UnreadableImage(path, *describe_os_error(error)) from error
    except ValueError as error:  # a NUL byte in the name
        raise UnreadableImage(path, "unreadable", "the system cannot open a file of this name") from error


def _require_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise UnreadableImage(path, "directory", "it is a folder, not a picture")
    if not stat.S_ISREG(mode):
        raise UnreadableImage(path, "unreadable", describe_special_file(mode))
