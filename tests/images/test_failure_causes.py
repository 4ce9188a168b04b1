"""Causes of failures, and when a failed file is retried."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from clipkit.errors import UnreadableImage
from clipkit.images.failure_causes import ACCESS, NOT_A_FILE, RESOURCES, failure_cause, is_worth_retrying

FILE = Path("a.jpg")


def failure(kind: str, origin: BaseException | None = None) -> UnreadableImage:
    """Return a failure as decoding raises it, with its cause."""
    try:
        raise UnreadableImage(FILE, kind, "a reason") from origin
    except UnreadableImage as error:
        return error


@pytest.mark.parametrize(
    "code", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EBUSY, errno.ENOTCONN, errno.EMFILE]
)
def test_system_errors_are_retried(code):
    cause = failure_cause(failure("unreadable", OSError(code, "said the system")), 100)
    assert cause == ACCESS and is_worth_retrying(cause, 100)


@pytest.mark.parametrize("origin", [None, OSError("cannot identify"), OSError(errno.EINVAL, "seek"), ValueError("x")])
def test_corrupt_bytes_are_retried_only_with_other_decoders(origin):
    cause = failure_cause(failure("unreadable", origin), 100)
    assert cause.startswith("bytes:clipkit ") and "pillow" in cause
    assert not is_worth_retrying(cause, 100)
    assert is_worth_retrying(cause.replace("pillow ", "pillow 1."), 100)


def test_the_cause_is_found_anywhere_in_the_chain():
    try:
        try:
            raise MemoryError
        except MemoryError as error:
            raise ValueError("decoding failed") from error
    except ValueError as error:
        assert failure_cause(failure("too-large", error), 100) == RESOURCES
    assert is_worth_retrying(RESOURCES, 100) and is_worth_retrying(NOT_A_FILE, 100) and is_worth_retrying("", 100)


def test_too_large_is_retried_with_a_larger_limit():
    cause = failure_cause(failure("too-large"), 100)
    assert [is_worth_retrying(cause, pixels) for pixels in (99, 100, 101)] == [False, False, True]


def test_a_missing_module_is_retried_once_it_can_be_imported():
    assert failure_cause(failure("unsupported", ImportError("no", name="rawpy.sub")), 100) == "missing:rawpy"
    assert is_worth_retrying("missing:tifffile" if _is_there("tifffile") else "missing:numpy", 100)
    assert not is_worth_retrying("missing:pillow", 100), "no module has that name"


def test_modules_named_by_a_catalog_are_not_imported(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert is_worth_retrying("missing:planted", 100)


def test_an_explicit_cause_takes_precedence():
    assert failure_cause(UnreadableImage(FILE, "crashed", "killed", RESOURCES), 100) == RESOURCES


def _is_there(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None
