"""A volume of HU that fills slab by slab in a temporary file, so that memory need not hold it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from synthct.errors import OutputError
from synthct.tensors import Slab
from synthct.tiling.cuts import Cut
from synthct.volume.intensity import AIR_HU, unit_to_hu

Shape = tuple[int, int, int]


class HuFile:
    """int16 HU in a memory-mapped file that is deleted when the `with` block ends.

    Used as the sink of `decode`:

        with HuFile(folder, shape) as volume:
            decode(autoencoder, latent, sink=volume.write)
            judge(volume.array)

    Args:
        folder: where the file lies; the system's temporary folder if None.
        shape: voxels (i, j, k). What is written beyond them (a padded grid) is left out.
        corner: where the written volume's first voxel goes; the rest stays air.

    Raises:
        OutputError: the file cannot be made, or the disk is full.
    """

    def __init__(self, folder: Path | None, shape: Shape, corner: Shape = (0, 0, 0)) -> None:
        self._folder, self._shape, self._corner = folder, shape, corner

    def __enter__(self) -> HuFile:
        try:
            handle, name = tempfile.mkstemp(prefix="synthct-hu-", suffix=".raw", dir=self._folder)
            os.close(handle)
        except OSError as error:
            raise OutputError(f"no temporary volume in {self._folder}: {error.strerror}") from error
        self._path = Path(name)
        try:
            self.array: npt.NDArray[np.int16] = np.memmap(
                self._path, dtype=np.int16, mode="w+", shape=self._shape
            )
            self.array[:] = np.int16(AIR_HU)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            raise OutputError(f"no room for a temporary volume: {error.strerror}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self.array
        self._path.unlink(missing_ok=True)

    def write(self, sample: int, cut: Cut, axis: int, slab: Slab) -> None:
        """Planes [start, stop) along `axis` of the decoder's output (1, 1, i, j, k), 0 to 1."""
        if sample != 0:
            raise ValueError(f"a HuFile holds one sample; this is number {sample + 1}")
        place, part = [], []
        for number, count in enumerate(slab.shape[2:]):
            first = self._corner[number] + (cut[0] if number == axis else 0)
            room = max(0, min(count, self._shape[number] - first))
            place.append(slice(first, first + room))
            part.append(slice(0, room))
        values = slab[0, 0][tuple(part)].float().cpu().numpy()
        self.array[tuple(place)] = np.rint(unit_to_hu(values)).astype(np.int16)
