"""Without a mask: a phantom's, for models that are too small to make a body of noise alone.

The published models make volumes of a field of view without a mask; the embedded one makes tissue
without anatomy there. It is given a label map of a person who does not exist (`synthct mask
phantom`), with the field of view, spacing and seed of the request. What is asked for is seen, and
comes with its labels; the image still comes from the networks alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from synthct.checkpoints import catalogue
from synthct.errors import UsageError
from synthct.phantom.regions import REGIONS
from synthct.workflows.phantom import write_phantom
from synthct.workflows.request import Request

R = TypeVar("R", bound=Request)
ORDER = ("head", "chest", "abdomen", "pelvis")


@contextmanager
def with_mask(request: R, seed: int) -> Iterator[tuple[R, tuple[str, ...]]]:
    """`request`, or where its model needs a mask and it brings none, the same with one drawn.

    Beside it, what is to be said of that.

    Raises:
        UsageError: no region, or several that no phantom shows together.
    """
    entry = catalogue.entry(request.model)
    size, spacing_mm = request.size, request.spacing_mm
    if request.mask or not entry.draws_mask or not (size and spacing_mm):
        yield request, ()
        return
    region = phantom_region(request.region)
    with tempfile.TemporaryDirectory(prefix="synthct-") as folder:
        path = Path(folder) / f"{entry.name}.nii.gz"
        write_phantom(path, region=region, spacing_mm=spacing_mm, seed=seed, size=size)
        drawn = f"no mask given: one was drawn, the {region} phantom of seed {seed}"
        yield request.model_copy(update={"mask": path, "size": None, "region": ()}), (drawn,)


def phantom_region(asked: tuple[str, ...]) -> str:
    """The phantom that shows all regions asked for.

    Raises:
        UsageError: there is none, or nothing was asked for.
    """
    if not asked:
        raise UsageError(
            "a field of view without a mask, and no --region",
            f"--region with one of: {', '.join(one.replace('-', ' ') for one in REGIONS)}",
        )
    name = "-".join(sorted(set(asked), key=ORDER.index))
    if name not in REGIONS:
        raise UsageError(
            f"--region {' '.join(asked)}: no phantom shows these together",
            f"one of: {', '.join(one.replace('-', ' ') for one in REGIONS)}; or give --mask",
        )
    return name
