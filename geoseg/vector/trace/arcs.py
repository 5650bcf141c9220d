"""Arcs: the shared borders of regions, from node to node, each kept once for its two neighbors."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import IO, Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from geoseg.compiled import njit
from geoseg.errors import OutputError


def _reserve(file: IO[bytes], size_bytes: int) -> None:
    """Have the disk give the room now: a mapped file that does not get it later ends the process, not the run."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size_bytes)
    else:
        file.truncate(size_bytes)


def disk_array(shape: tuple[int, ...], dtype: DTypeLike, budget: int) -> NDArray[Any]:
    """Return an uninitialized array: in memory up to `budget` bytes, beyond that in a temporary file without a name.

    The file goes when the array does. Raises OutputError when the disk of temporary files is full.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size <= budget:
        return np.empty(shape, dtype)
    try:
        with tempfile.TemporaryFile(prefix="geoseg-") as file:
            _reserve(file, size)
            mapped = np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise OutputError(
            f"cannot put {size / 1e9:.1f} GB of open borders on the disk of temporary files: {error.strerror}; "
            "set TMPDIR to a folder with more room"
        ) from error
    return np.asarray(mapped)


_NO_ROW = np.iinfo(np.int32).max
_ALL_IN_MEMORY = 1 << 62


@dataclass(slots=True)
class Arcs:
    """Nodes, arcs and their vertices. Slots and quadrants are as in `lattice`; rows and columns are the raster's."""

    node_rows: NDArray[np.int32]
    node_cols: NDArray[np.int32]
    edges: NDArray[np.uint8]
    """(node,) the edges that meet there, bit by bit; 16: it is no vertex, for the ring around it has been smoothed."""
    quadrants: NDArray[np.int32]
    """(4 * node,) regions of the pixels around; -1 for background and for regions that are finished."""
    starts: NDArray[np.int32]
    """(arc,) the slot where each begins; where a strip cuts it, -1 - 2 col at the bottom, -2 - 2 col at the top."""
    ends: NDArray[np.int32]
    firsts: NDArray[np.int64]
    """(arc,) its first vertex; nodes are not among the vertices."""
    counts: NDArray[np.int32]
    integrals: NDArray[np.int64]
    """(arc,) the integral of col * d(row) along it as it was traced."""
    vertices: NDArray[np.int32]
    """(vertex, 2) row, col."""
    settled: NDArray[np.bool_]
    """(arc,) whether it is whole and generalized."""

    @classmethod
    def none(cls) -> Self:
        """Return no arcs: what lies above a raster."""
        small = np.empty(0, np.int32)
        long = np.empty(0, np.int64)
        return cls(
            small, small, np.empty(0, np.uint8), small, small, small, long, small, long, np.empty((0, 2), np.int32),
            np.empty(0, np.bool_),
        )  # fmt: skip

    @property
    def whole(self) -> NDArray[np.bool_]:
        """(arc,) whether both ends are known."""
        return (self.starts >= 0) & (self.ends >= 0)

    @property
    def halves(self) -> NDArray[np.int32]:
        """(slot,) 2 * arc where a whole arc starts, 2 * arc + 1 where it ends, -1 elsewhere."""
        halves = np.full(len(self.quadrants), -1, np.int32)
        whole = np.flatnonzero(self.whole).astype(np.int32)
        halves[self.starts[whole]] = 2 * whole
        halves[self.ends[whole]] = 2 * whole + 1
        return halves

    @property
    def cut_nodes(self) -> NDArray[np.int32]:
        """The nodes of arcs that are not yet whole; some more than once."""
        cut = ~self.whole
        ends = np.concatenate([self.starts[cut], self.ends[cut]])
        return ends[ends >= 0] >> 2

    @property
    def first_open_row(self) -> int:
        """The first row of the lattice that an arc not yet whole has touched; a great number if all are whole."""
        cut = np.flatnonzero(~self.whole)
        rows = [self.node_rows[self.cut_nodes], self.copy_vertices(cut, _ALL_IN_MEMORY)[0][:, 0]]
        return int(min(column.min(initial=_NO_ROW) for column in rows))

    def copy_vertices(
        self, arcs: NDArray[np.int64], budget: int, more: int = 0
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the vertices of some arcs one behind the other, with room for `more`, and their (arc + 1,) offsets."""
        counts = self.counts[arcs]
        offsets = np.zeros(len(arcs) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        vertices = disk_array((int(offsets[-1]) + more, 2), np.int32, budget)
        _copy(self.vertices, self.firsts[arcs], counts, vertices)
        return vertices, offsets

    def carry(self, keep: NDArray[np.bool_], away: NDArray[np.bool_], budget: int) -> Self:
        """Return what the next strip needs: the arcs of the regions to `keep`, (region,), and those cut at the seam.

        But not those that are put `away`, (arc,). The regions are renumbered without gaps. Vertices beyond `budget`
        bytes lie on the disk.
        """
        numbers = np.full(len(keep) + 1, -1, np.int32)  # the last entry is for -1
        numbers[:-1][keep] = np.arange(np.count_nonzero(keep), dtype=np.int32)
        quadrants = numbers[self.quadrants]
        kept = ~self.whole
        if len(quadrants):  # else all are cut
            kept |= quadrants.take(self.starts, mode="clip") >= 0
            kept |= quadrants.take(self.ends, mode="clip") >= 0
        return replace(self, quadrants=quadrants).chosen(np.flatnonzero(kept & ~away), budget)

    def chosen(self, arcs: NDArray[np.int64], budget: int) -> Self:
        """Return some of the arcs, and their nodes only. Vertices beyond `budget` bytes lie on the disk."""
        starts, ends = self.starts[arcs], self.ends[arcs]
        used = np.zeros(len(self.node_rows), np.bool_)
        used[starts[starts >= 0] >> 2] = True
        used[ends[ends >= 0] >> 2] = True
        nodes = np.cumsum(used, dtype=np.int32) - np.int32(1)
        vertices, firsts = self.copy_vertices(arcs, budget)
        return type(self)(
            self.node_rows[used], self.node_cols[used], self.edges[used],
            self.quadrants.reshape(-1, 4)[used].ravel(), _renumbered(starts, nodes), _renumbered(ends, nodes),
            firsts[:-1], self.counts[arcs], self.integrals[arcs], vertices, self.settled[arcs],
        )  # fmt: skip


def stacked(parts: Sequence[NDArray[np.int32]], more: int, budget: int) -> NDArray[np.int32]:
    """Return (vertex, 2) the parts one behind the other, with room for more; beyond `budget` bytes on the disk."""
    whole = disk_array((sum(map(len, parts)) + more, 2), np.int32, budget)
    at = 0
    for part in parts:
        whole[at : at + len(part)] = part
        at += len(part)
    return whole


def united(parts: Sequence[Arcs], budget: int) -> Arcs:
    """Return the arcs of all parts; nodes that are at one place become one, in the order of their places."""
    keys = np.concatenate([part.node_rows.astype(np.int64) << 32 | part.node_cols for part in parts])
    _, firsts, nodes = np.unique(keys, return_index=True, return_inverse=True)
    quadrants = np.full((len(firsts), 4), -1, np.int32)
    np.maximum.at(quadrants, nodes, np.concatenate([part.quadrants for part in parts]).reshape(-1, 4))
    bases = np.cumsum([0, *(len(part.node_rows) for part in parts)])
    begins = np.cumsum([0, *(len(part.vertices) for part in parts)])
    numbers = [nodes[base:].astype(np.int32) for base in bases[:-1]]
    return Arcs(
        np.concatenate([part.node_rows for part in parts])[firsts],
        np.concatenate([part.node_cols for part in parts])[firsts],
        np.concatenate([part.edges for part in parts])[firsts],
        quadrants.ravel(),
        np.concatenate([_renumbered(part.starts, own) for part, own in zip(parts, numbers, strict=True)]),
        np.concatenate([_renumbered(part.ends, own) for part, own in zip(parts, numbers, strict=True)]),
        np.concatenate([part.firsts + begin for part, begin in zip(parts, begins[:-1], strict=True)]),
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.integrals for part in parts]),
        stacked([part.vertices for part in parts], 0, budget),
        np.concatenate([part.settled for part in parts]),
    )


def _renumbered(slots: NDArray[np.int32], nodes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give slots the new numbers of their nodes; codes of the seam stay."""
    if not len(nodes):
        return slots
    return np.where(slots < 0, slots, 4 * nodes.take(slots >> 2, mode="clip") + (slots & 3)).astype(np.int32)


@njit(cache=True, nogil=True)
def _copy(vertices: Any, firsts: Any, counts: Any, copy: Any) -> None:
    to = 0
    for arc in range(len(firsts)):
        for at in range(firsts[arc], firsts[arc] + counts[arc]):
            copy[to, 0] = vertices[at, 0]
            copy[to, 1] = vertices[at, 1]
            to += 1
