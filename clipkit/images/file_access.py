"""Opening a file that anybody may have put there: ordinary files only, and every failure in plain words."""

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
    """Say what a file of this `st_mode` is when it is neither an ordinary file nor a folder."""
    what = next((words for test, words in _SPECIAL if test(mode)), "a special file")
    return f"it is {what}, not a picture"


def describe_os_error(error: OSError) -> tuple[FailureKind, str]:
    """Return the failure kind and a one-line reason for an error of the operating system."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "vanished", "there is no such file any more"
    if error.errno == errno.EISDIR:
        return "directory", "it is a folder, not a picture"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "unreadable", "no permission to read it"
    if error.errno == errno.ELOOP:
        return "unreadable", "its symbolic links lead in a circle"
    words = (error.strerror or str(error) or type(error).__name__).strip().splitlines()[0]
    return "unreadable", f"the system cannot read it ({words})"


def modified_ns(status: os.stat_result) -> int:
    """Return when a file was last changed, in nanoseconds, folded into the signed 64 bits that SQLite holds.

    Dates before 1677 and after 2262 do not fit, and file systems have them. Folded, rather than cut off at the ends,
    two different dates still differ.
    """
    return (status.st_mtime_ns + 2**63) % 2**64 - 2**63


def is_absent(path: Path, *, follow_links: bool = True) -> bool:
    """Tell whether there is nothing at a path. What the system refuses to look at counts as being there."""
    try:
        os.stat(path, follow_symlinks=follow_links)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        pass
    return False


def why_absent(path: Path) -> str | None:
    """Return a line that says that there is nothing at a path, or None where something is, readable or not.

    What lies behind a folder that may not be entered counts as being there.
    """
    try:
        os.stat(path)
    except ValueError:  # a name that no file system takes
        return f"there is no file or folder {path}"
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        if os.path.islink(path):
            return f"{path} is a symbolic link to nothing: there is no {os.readlink(path)}"
        return f"there is no file or folder {path}"
    return None


def open_regular(path: Path) -> tuple[BinaryIO, os.stat_result]:
    """Open an ordinary file for reading, without buffering surprises, and return it with its stat.

    Raises `UnreadableImage` with kind "vanished", "directory" or "unreadable". Never blocks on a pipe and never opens
    a device: the file is looked at before it is opened, and again once it is open, in case it was swapped meanwhile.
    """
    try:
        _require_regular(path, os.stat(path).st_mode)
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
        # Without O_NONBLOCK, opening a pipe that took the file's place would wait for a writer for ever.
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
        raise UnreadableImage(path, "unreadable", "its name is not one the system can open") from error


def _require_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise UnreadableImage(path, "directory", "it is a folder, not a picture")
    if not stat.S_ISREG(mode):
        raise UnreadableImage(path, "unreadable", describe_special_file(mode))
