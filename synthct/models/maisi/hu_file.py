"""A volume that fills slab by slab in a temporary file, so that memory need not hold it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from synthct.errors import OutputError
from synthct.tensors import Slab
from synthct.tiling.cuts import Cut
from synthct.volume.intensity import AIR_HU, Float32, unit_to_hu

Shape = tuple[int, int, int]
Box = tuple[slice, ...]
_FILL_ELEMENTS = 2**24  # of the fill value at once


class HuFile:
    """int16 scanner units in a memory-mapped file without a name.

    Used as the sink of `decode`:

        with HuFile(folder, shape) as volume:
            decode(autoencoder, latent, sink=volume.write)
            judge(volume.array)

    The file goes when the block has ended and nobody holds `array` any more; where the system
    allows it, it has no name from the start, so that not even a killed process leaves one behind.

    Args:
        folder: where the file lies; the system's temporary folder if None.
        shape: voxels (i, j, k).
        box: where the written volume goes; all of `shape` if None. What is written beyond it (a
            padded grid) is left out, and the rest stays air.
        air: what is not written, in scanner units.
        to_scanner: from the decoder's output to scanner units, which are rounded and saturated.

    Raises:
        OutputError: the file cannot be made, or the disk is full.
    """

    def __init__(
        self,
        folder: Path | None,
        shape: Shape,
        box: Box | None = None,
        *,
        air: float = AIR_HU,
        to_scanner: Callable[[npt.NDArray[Any]], Float32] = unit_to_hu,
    ) -> None:
        self._folder, self._shape = folder, shape
        self._box = box or tuple(slice(0, n) for n in shape)
        self._air, self._to_scanner = air, to_scanner

    def __enter__(self) -> HuFile:
        where = self._folder or Path(tempfile.gettempdir())
        try:
            with tempfile.TemporaryFile(prefix="synthct-hu-", dir=self._folder) as file:
                reserve(file, 2 * int(np.prod(self._shape)))
                self.array: npt.NDArray[np.int16] = np.memmap(
                    file, dtype=np.int16, mode="r+", shape=self._shape
                )
        except OSError as error:
            raise OutputError(f"no temporary volume in {where}: {error.strerror}") from error
        flat = self.array.reshape(-1)
        for start in range(0, flat.size, _FILL_ELEMENTS):
            flat[start : start + _FILL_ELEMENTS] = np.int16(self._air)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self.array

    def write(self, sample: int, cut: Cut, axis: int, slab: Slab) -> None:
        """Planes [start, stop) along `axis` of the decoder's output (1, 1, i, j, k), 0 to 1."""
        if sample != 0:
            raise ValueError(f"a HuFile holds one sample; this is number {sample + 1}")
        place, part = [], []
        for number, (count, inside) in enumerate(zip(slab.shape[2:], self._box, strict=True)):
            first = inside.start + (cut[0] if number == axis else 0)
            room = max(0, min(count, inside.stop - first))
            place.append(slice(first, first + room))
            part.append(slice(0, room))
        values = slab[0, 0][tuple(part)].float().cpu().numpy()
        rounded = np.rint(self._to_scanner(values))
        limits = np.iinfo(np.int16)
        self.array[tuple(place)] = np.clip(rounded, limits.min, limits.max).astype(np.int16)


def reserve(file: IO[bytes], size: int) -> None:
    """Take the disk now: a full one found while writing to the map would end the process."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
            return
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
    file.truncate(size)
