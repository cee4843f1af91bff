"""Maximum mean discrepancy of volumes, from the inner products between them, in its named variants.

Voxels are in 0..1 and products are summed over voxels, so linear values grow with the volume;
papers differ by such factors, by bias and by batches: without its variant a number means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Gram:
    """Inner products: `first` (a, a), `second` (b, b), `across` (a, b)."""

    first: Floats
    second: Floats
    across: Floats

    @classmethod
    def of(cls, first: Floats, second: Floats) -> Gram:
        """From vectors (a, d) and (b, d)."""
        x, y = first.astype(np.float64), second.astype(np.float64)
        return cls(x @ x.T, y @ y.T, x @ y.T)

    def drawn(self, one: Indices, two: Indices) -> Gram:
        return Gram(
            self.first[np.ix_(one, one)],
            self.second[np.ix_(two, two)],
            self.across[np.ix_(one, two)],
        )


def linear_biased(gram: Gram) -> float:
    """|mean of one − mean of the other|²: the plain mean over all pairs."""
    return float(gram.first.mean() + gram.second.mean() - 2 * gram.across.mean())


def linear_unbiased(gram: Gram) -> float:
    """Pairs of a volume with itself left out; as MONAI's MMDMetric. May be below 0."""
    return _off_diagonal(gram.first) + _off_diagonal(gram.second) - 2 * float(gram.across.mean())


def linear_pairs(gram: Gram) -> float:
    """Mean of |x − y|² over all pairs of one real and one synthetic volume: batches of one."""
    squares = gram.first.diagonal()[:, None] + gram.second.diagonal()[None, :]
    return float((squares - 2 * gram.across).mean())


def linear_batches(gram: Gram, batch: int, repeats: int, seed: int) -> float:
    """`linear_biased` of batches of both, averaged over the batches and over `repeats` orders.

    As 3dbraingen computes it, over as many batches as the smaller set fills.
    """
    rng = np.random.default_rng([seed, 0xBA7C])
    size = min(batch, len(gram.first), len(gram.second))
    batches = min(len(gram.first), len(gram.second)) // size
    found = []
    for _ in range(repeats):
        one = rng.permutation(len(gram.first))[: size * batches].reshape(batches, size)
        two = rng.permutation(len(gram.second))[: size * batches].reshape(batches, size)
        found += [linear_biased(gram.drawn(a, b)) for a, b in zip(one, two, strict=True)]
    return float(np.mean(found))


def bandwidth_of(gram: Gram) -> float:
    """The median distance between any two volumes of both sets, the usual choice for RBF."""
    whole = np.block([[gram.first, gram.across], [gram.across.T, gram.second]])
    distances = np.sqrt(_squares(whole, whole.diagonal(), whole.diagonal()))
    upper = distances[np.triu_indices(len(distances), 1)]
    return float(max(np.median(upper), 1e-12))


def rbf(gram: Gram, bandwidth: float, *, unbiased: bool) -> float:
    """MMD² with k(x, y) = exp(−|x − y|² / 2 bandwidth²), between 0 and 2 where biased."""
    one, two = gram.first.diagonal(), gram.second.diagonal()
    first, second, among = (
        np.exp(-_squares(products, a, b) / (2 * bandwidth**2))
        for products, a, b in (
            (gram.first, one, one),
            (gram.second, two, two),
            (gram.across, one, two),
        )
    )
    across = float(among.mean())
    if unbiased:
        return _off_diagonal(first) + _off_diagonal(second) - 2 * across
    return float(first.mean() + second.mean()) - 2 * across


def _squares(products: Floats, one: Floats, two: Floats) -> Floats:
    return np.maximum(one[:, None] + two[None, :] - 2 * products, 0.0)


def _off_diagonal(kernel: Floats) -> float:
    n = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))
