"""The kernel distance (KID, Bińkowski 2018): MMD² with k(x, y) = (x·y/d + 1)³, unbiased.

Slices of one case are alike, so cases, not slices, are drawn again for the interval. The sums of
the kernel over each pair of cases are all that a draw needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rows = Sequence[npt.NDArray[np.floating]]


@dataclass(frozen=True, eq=False)
class KernelSums:
    """Sums of the kernel: within each set (a, b cases), across (a of one, b of the other)."""

    first: Floats
    second: Floats
    across: Floats
    diagonal_first: Floats
    diagonal_second: Floats
    slices_first: Floats
    slices_second: Floats

    @classmethod
    def of(cls, first: Rows, second: Rows) -> KernelSums:
        """From one array (slices, d) per case."""
        return cls(
            _sums(first, first),
            _sums(second, second),
            _sums(first, second),
            np.array([_diagonal(rows) for rows in first]),
            np.array([_diagonal(rows) for rows in second]),
            np.array([float(len(rows)) for rows in first]),
            np.array([float(len(rows)) for rows in second]),
        )

    def distance(
        self,
        drawn_first: npt.NDArray[np.intp] | None = None,
        drawn_second: npt.NDArray[np.intp] | None = None,
    ) -> float:
        """Unbiased MMD² of all cases, or of those drawn (with repetitions)."""
        one = np.arange(len(self.first)) if drawn_first is None else drawn_first
        two = np.arange(len(self.second)) if drawn_second is None else drawn_second
        within = _within(self.first, self.diagonal_first, self.slices_first, one)
        within += _within(self.second, self.diagonal_second, self.slices_second, two)
        slices = self.slices_first[one].sum() * self.slices_second[two].sum()
        return float(within - 2 * self.across[np.ix_(one, two)].sum() / slices)


def kernel_distance(first: Rows, second: Rows) -> float:
    """KID of two sets of cases, each (slices, d). May be below 0: it has no bias."""
    return KernelSums.of(first, second).distance()


def _within(sums: Floats, diagonal: Floats, slices: Floats, drawn: npt.NDArray[np.intp]) -> float:
    """Mean of the kernel over pairs of distinct slices.

    A case that is drawn twice meets itself; its slices' pairs with themselves are left out there
    too, and the rest counts for them.
    """
    pairs = sums[np.ix_(drawn, drawn)].copy()
    counts = np.outer(slices[drawn], slices[drawn])
    apart = sums.diagonal() - diagonal
    n = slices
    same = drawn[:, None] == drawn[None, :]
    scaled = np.where(n > 1, apart * n / np.maximum(n - 1, 1), sums.diagonal())
    pairs[same] = np.broadcast_to(scaled[drawn][:, None], pairs.shape)[same]
    np.fill_diagonal(pairs, apart[drawn])
    np.fill_diagonal(counts, (n * (n - 1))[drawn])
    return float(pairs.sum() / counts.sum())


def _sums(first: Rows, second: Rows) -> Floats:
    return np.array([[float(_kernel(a, b).sum()) for b in second] for a in first])


def _diagonal(rows: npt.NDArray[np.floating]) -> float:
    square = np.square(rows, dtype=np.float64).sum(axis=1)
    return float(((square / rows.shape[1] + 1) ** 3).sum())


def _kernel(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Floats:
    product: Floats = a.astype(np.float64) @ b.astype(np.float64).T
    return np.asarray((product / a.shape[1] + 1) ** 3)
