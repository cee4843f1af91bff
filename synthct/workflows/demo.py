"""`generate --demo`: the main job on a mask that needs no data, a phantom made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthct.errors import UsageError
from synthct.workflows.generate import GenerateReport, generate
from synthct.workflows.phantom import write_phantom
from synthct.workflows.progress import Progress, SilentProgress

MASK = "demo.nii.gz"


def generate_demo(
    *, output: Path, overwrite: bool = False, progress: Progress | None = None, **words: Any
) -> GenerateReport:
    """Write a chest-abdomen phantom to `output` and generate the CT that follows it.

    Raises: as `generate`; UsageError where words speak of another field of view.
    """
    progress = progress or SilentProgress()
    if words.get("size") or words.get("labels") != "auto":
        raise UsageError("--demo brings its own mask: --size and --labels have no meaning with it")
    spacing = words.pop("spacing_mm", None) or (3.0, 3.0, 3.0)
    path = Path(output) / MASK
    if not (path.exists() and words.get("resume")):
        progress.say(f"demo mask: {path} (a parametric phantom)")
        write_phantom(
            path,
            region="chest-abdomen",
            spacing_mm=(3.0, 3.0, 3.0),
            seed=words.get("seed", 0),
            overwrite=overwrite,
        )
    return generate(
        path,
        progress=progress,
        output=output,
        overwrite=overwrite,
        spacing_mm=spacing,
        **words,
    )
