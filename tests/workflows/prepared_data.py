"""A folder as `synthct prepare` leaves it, of made-up voxels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def write_prepared(folder: Path) -> Path:
    """Two cases: a scan, and a phantom with its tissues. Returns `folder`."""
    rng = np.random.default_rng(0)
    labels = np.zeros((20, 18, 16), dtype=np.uint8)
    labels[3:17, 3:15, :] = 200
    labels[6:12, 5:12, 4:12] = 1
    image = np.where(labels == 0, -1000, 40 + rng.integers(-20, 20, labels.shape)).astype(np.int16)
    spacing = np.array([4.0, 4.0, 4.0], dtype=np.float32)
    tissues = (labels == 200).astype(np.uint8)
    for name in ("images", "pairs"):
        (folder / name).mkdir()
    body = labels > 0
    np.savez(folder / "images" / "a.npz", image=image, body=body, spacing_mm=spacing)
    for name, more in (("a", {}), ("b", {"tissues": tissues})):
        meta = json.dumps({"kind": "phantom" if more else "real"})
        np.savez(
            folder / "pairs" / f"{name}.npz",
            image=image,
            labels=labels,
            spacing_mm=spacing,
            meta=np.array(meta),
            **more,
        )
    return folder
