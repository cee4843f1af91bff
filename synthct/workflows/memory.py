"""How much memory a request will take, estimated from the shapes of the networks. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from synthct.errors import MemoryBudgetError
from synthct.geometry import Shape
from synthct.models.maisi.spec import MaisiSpec

_FLOAT_BYTES = 4
_RUNTIME_BYTES = 300 * 2**20  # what torch itself takes before the first tensor
_MAPS_IN_DECODER = 1.75  # maps of the widest full-resolution layer alive at once (MAISI.md 6)
_MAPS_IN_UNET = 12  # of its first level: skip connections, the ControlNet's residuals, work
_BYTES_PER_VOXEL_ASKED = 12  # float32 image, int16 copy, labels, resampling
_BYTES_PER_VOXEL_INNER = 10


@dataclass(frozen=True)
class MemoryEstimate:
    """Peak of each part, in bytes, beside what stays all the time (`resident`)."""

    resident: int
    sampling: int
    decoding: int

    @property
    def peak(self) -> int:
        return self.resident + max(self.sampling, self.decoding)

    def as_dict(self) -> dict[str, int]:
        return {
            "resident_bytes": self.resident,
            "sampling_bytes": self.sampling,
            "decoding_bytes": self.decoding,
            "peak_bytes": self.peak,
        }

    def within(self, budget_bytes: int | None) -> MemoryEstimate:
        """This estimate, if it keeps to the budget.

        Raises:
            MemoryBudgetError: it does not.
        """
        if budget_bytes is not None and self.peak > budget_bytes:
            raise MemoryBudgetError(
                f"about {gib(self.peak)} GiB needed, {gib(budget_bytes)} GiB allowed",
                "ask for a coarser --spacing, or allow more with --max-memory",
            )
        return self


def estimate(spec: MaisiSpec, inner: Shape, asked: Shape, weights_bytes: int = 0) -> MemoryEstimate:
    """Memory for one sample of `inner` voxels in the network, written on `asked` voxels."""
    voxels, latent = prod(inner), prod(n // spec.autoencoder.factor for n in inner)
    widest = max(spec.autoencoder.num_channels[:2])
    embedding = 8 + 2 * spec.embedding_channels[0]  # label bits, then the mask encoder's first maps
    return MemoryEstimate(
        resident=_RUNTIME_BYTES
        + 2 * weights_bytes  # stored as float16, held as float32
        + _BYTES_PER_VOXEL_ASKED * prod(asked)
        + _BYTES_PER_VOXEL_INNER * voxels,
        sampling=_FLOAT_BYTES
        * (voxels * embedding + _MAPS_IN_UNET * latent * spec.unet.num_channels[0]),
        decoding=int(_FLOAT_BYTES * voxels * widest * _MAPS_IN_DECODER),
    )


def gib(amount_bytes: int) -> str:
    return f"{amount_bytes / 2**30:.1f}"
