"""Files are read ahead of a search exactly where the page cache lacks them."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from clipkit.vectors import prereading
from clipkit.vectors.prereading import BLOCK, is_cached, preread, preread_all

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what its page cache holds")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "vectors.bin"
    path.write_bytes(np.random.default_rng(0).bytes(3 * BLOCK + 12_345))
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)  # only pages that are on the disk can be evicted
    os.close(descriptor)
    return path


def evict(path) -> bool:
    """Drop a file from the page cache; return whether the system did so."""
    descriptor = os.open(path, os.O_RDONLY)
    for _ in range(2):  # again, because asking reads some of it
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        evicted = not is_cached(path, far_apart(path))
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    return evicted


def far_apart(path) -> range:
    return range(0, path.stat().st_size, BLOCK // 2)


@LINUX
def test_what_is_cached_is_not_read_again(file):
    if not evict(file):
        pytest.skip("this file system keeps its files in memory")
    assert preread_all(file)
    assert is_cached(file, far_apart(file))
    assert not preread_all(file)


@LINUX
def test_only_the_wanted_ranges_are_read(file, monkeypatch):
    if not evict(file):
        pytest.skip("this file system keeps its files in memory")
    read = []
    monkeypatch.setattr(prereading, "_read", lambda _, offset, length: read.append((offset, length)))
    starts, lengths = np.array([2 * BLOCK, 0, 100, 4096]), np.array([10, 100, 50, 2 * BLOCK - 4096])
    assert preread(file, starts, lengths)
    assert sorted(read) == [(0, 150), (4096, BLOCK), (4096 + BLOCK, BLOCK - 4096 + 10)]


def test_nothing_to_read(file, tmp_path):
    assert not preread(file, np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert not preread_all(tmp_path / "deleted since it was mapped")
    (tmp_path / "empty").touch()
    assert not preread_all(tmp_path / "empty")


def test_where_the_system_cannot_tell_files_are_read(file, monkeypatch):
    monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
    assert not is_cached(file, [0])
    assert preread_all(file)
