"""Vectors in inverted lists, memory-mapped, of which a search reads only the lists nearest to the query.

The lists are those of FAISS's IVF index (Sivic & Zisserman, "Video Google", ICCV 2003; Jégou et al., "Product
Quantization for Nearest Neighbor Search", TPAMI 2011). With 16 bits the same half-precision values are stored as in an
exact index, so that only which vectors are compared is approximate, not their scores.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

from clipkit.errors import LibraryDamaged
from clipkit.vectors.exact import GATHER_SHARE
from clipkit.vectors.manifest import Segment
from clipkit.vectors.nearest import exact_index, nearest, nearest_in, row_selector
from clipkit.vectors.prereading import preread
from clipkit.vectors.segment_files import mapped_array

ROW_BYTES = 8
"""Bytes of a vector's row number, which FAISS stores behind the vectors of each list."""
TUNED_RESULTS = 100
"""Searches for more results than this probe more lists, in proportion."""


def list_table(lists: Any) -> np.ndarray:
    """Return the size, capacity and offset of FAISS's lists, uintp (lists, 3), as a view of its memory."""
    address = int(lists.lists.data().this)
    table = (ctypes.c_size_t * (3 * lists.nlist)).from_address(address)
    return np.frombuffer(table, np.uintp).reshape(-1, 3)


class IvfVectors:
    """An index that `ivf_building.write_ivf` wrote."""

    def __init__(self, folder: Path, segment: Segment) -> None:
        import faiss

        self._file = segment.file(folder, "lists")
        # The lists are mapped by hand: FAISS would look for them in the working directory, or print that it does not.
        flags = faiss.IO_FLAG_SKIP_IVF_DATA | faiss.IO_FLAG_READ_ONLY
        index: Any = faiss.read_index(str(segment.file(folder, "index")), flags)
        lists: Any = faiss.downcast_InvertedLists(index.invlists)
        self._index, self._lists = index, lists
        self._lists.filename = str(self._file)
        self._lists.do_mmap()
        if self._lists.totsize != self._file.stat().st_size or self._index.nlist != segment.plan.lists:
            raise ValueError("the lists do not fit the index")
        self._lists.prefetch_nthread = 0  # it would read every probed list once more, on 32 threads
        self._index.parallel_mode = 1  # single queries run on all cores
        self.shape = self._index.ntotal, self._index.d
        self._slots = mapped_array(segment.file(folder, "slots"), segment.count)
        self._plan, self._nprobe = segment.plan, segment.nprobe
        size = self._index.code_size
        self._codes = np.memmap(self._file, np.uint8, "r", shape=(self._lists.totsize // size, size))
        sizes, _, self._starts = list_table(self._lists).astype(np.int64).T
        self._lengths = sizes * (size + ROW_BYTES)

    def search(
        self, ids: np.ndarray, queries: np.ndarray, k: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best as `VectorStore.search` does; ids: int64 (n,), of every row.

        A filter that keeps a share of the vectors probes as many times more lists, so that about as many vectors are
        compared as without it. If the probed lists hold fewer than k, more are probed.
        """
        import faiss

        among = len(ids)
        selector: Any = None
        if allowed is not None:
            rows = np.flatnonzero(allowed)
            if len(rows) <= max(k, GATHER_SHARE * len(ids)):
                return nearest_in(exact_index(self.rows(rows)), ids[rows], queries, k)
            among, selector = len(rows), row_selector(allowed)
        probes = self._nprobe * max(1.0, k / TUNED_RESULTS) * len(ids) / among
        while True:
            nprobe = min(int(np.ceil(probes)), self._index.nlist)
            self._preread(self._index.quantizer.search(queries, nprobe)[1])
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=nprobe)  # type: ignore[call-arg]

            def probe(wanted: int, parameters: Any = parameters) -> tuple[np.ndarray, np.ndarray]:
                return self._index.search(queries, wanted, params=parameters)

            found = nearest(probe, ids, len(queries), k, among)
            if nprobe == self._index.nlist or (found[1][:, : min(k, among)] >= 0).all():
                return found
            probes *= 4

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the vectors of rows, float32 (m, d); rounded to a byte a component if the plan has 8 bits.

        Raises LibraryDamaged if a row's place lies outside the file.
        """
        slots = self._slots[rows]
        if len(slots) and (slots.min() < 0 or slots.max() >= len(self._codes)):
            raise LibraryDamaged(f"{self._file.parent} is corrupt; run `clipkit check --repair`")
        order = np.argsort(slots)
        preread(self._file, slots[order] * self._codes.shape[1], np.full(len(slots), self._codes.shape[1]))
        codes = np.empty((len(rows), self._codes.shape[1]), np.uint8)
        codes[order] = self._codes[slots[order]]
        if self._plan.bits == 16:
            return codes.view("<f2").astype(np.float32)
        return self._index.sq.decode(codes)

    def _preread(self, lists: np.ndarray) -> None:
        """Read the lists, (q, p), into the page cache if the disk has to be asked for them."""
        wanted = np.unique(lists[lists >= 0])
        preread(self._file, self._starts[wanted], self._lengths[wanted])
