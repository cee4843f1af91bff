"""A worker whose device 1 runs out of memory the first times that it makes its third slab."""

import os
import sys
from pathlib import Path

from synthct.models.maisi import worker
from synthct.tiling import halo

TIMES = "SHORT_WORKER_TIMES"


def _run_short(times: int) -> None:
    emit, slabs, failures = halo._Sweeper._emit, [0], [0]

    def emitted(sweeper: halo._Sweeper, *arguments: object) -> None:
        slabs[0] += 1
        if slabs[0] % 3 == 0 and failures[0] < times:
            failures[0] += 1
            raise MemoryError
        emit(sweeper, *arguments)  # type: ignore[arg-type]

    halo._Sweeper._emit = emitted  # type: ignore[method-assign]


if __name__ == "__main__":
    if sys.argv[2] == "1":
        _run_short(int(os.environ[TIMES]))
    sys.exit(worker.main(Path(sys.argv[1]), int(sys.argv[2])))
