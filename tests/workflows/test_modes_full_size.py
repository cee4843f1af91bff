"""Each mode of generation once with networks of the published size, on small fields of view.

Random weights in the published layouts, in temporary files, loaded as a user's would be. The
published models are sampled in sizes too large for a test, so that smaller ones are let through
here; the networks, their files and everything else are as published. Minutes: marked slow.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from synthct.checkpoints import catalogue
from synthct.checkpoints.entry import Sizes
from synthct.cli.main import main
from synthct.labels.groups import TUMOURS
from synthct.volume.reading import read_labels
from synthct.workflows import wishes
from tests.checkpoints.published import random_networks, write_published

pytestmark = pytest.mark.slow

SIDE = 64
_SMALL_CT = {
    "sizes": Sizes(in_plane=(SIDE,), slices=(32, SIDE)),
    "shape_min": (SIDE, SIDE, 32),
    "shape_max": (SIDE, SIDE, SIDE),
    "spacing_range_mm": ((0.5, 9.0),) * 3,
}
_SMALL_MR = {"shape_min": (32, 32, 32), "spacing_range_mm": ((0.5, 9.0),) * 3}
_SMALL_MASKS = {
    "sizes": Sizes(in_plane=(SIDE,), slices=(SIDE,)),
    "shape_min": (SIDE,) * 3,
    "shape_max": (SIDE,) * 3,
    "spacing_range_mm": ((6.0, 6.0),) * 3,
}


@pytest.fixture
def small_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The catalogue with small sizes allowed, and an empty home."""
    found = dict(catalogue.entries())
    for name, entry in found.items():
        if not entry.embedded:
            small = _SMALL_MASKS if name == wishes.MASK_MODEL else _SMALL_MR
            if entry.task == "mask-to-ct":
                small = _SMALL_CT  # type: ignore[assignment]
            found[name] = entry.model_copy(update=small)
    monkeypatch.setattr(catalogue, "entries", lambda: found)
    monkeypatch.setenv("SYNTHCT_HOME", str(tmp_path / "home"))
    yield tmp_path
    gc.collect()


def _published(folder: Path, name: str) -> Path:
    entry = catalogue.entry(name)
    write_published(folder / name, entry, random_networks(entry))
    gc.collect()
    return folder / name


def _generate(words: list[str], out: Path) -> np.ndarray[Any, Any]:
    words = ["generate", *words, "--retries", "0", "--device", "cpu", "-o", str(out), "-q"]
    assert main(words) in (0, 4)  # random weights make no CT that passes
    (image,) = [p for p in out.rglob("*.nii.gz") if not p.name.endswith("_dseg.nii.gz")]
    array = np.asarray(nib.load(image).dataobj)
    assert np.isfinite(array).all() and array.std() > 0
    return array


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("maisi-ct-ddpm", ["--sampler", "dpm++", "--steps", "2"]),
        (
            "maisi-ct-rflow",
            ["--contrast", "enhanced", "--modality-guidance", "2", "--steps", "1"],
        ),
    ],
)
def test_ct_from_a_mask(model: str, words: list[str], small_mask: Path, small_views: Path) -> None:
    weights = _published(small_views, model)
    words = ["--mask", str(small_mask), "--model", model, "--weights", str(weights), *words]
    found = _generate(
        [*words, *([] if "--steps" in words else ["--steps", "1"])], small_views / "o"
    )
    assert found.shape == nib.load(small_mask).shape


@pytest.mark.parametrize("model", ["maisi-ct-ddpm", "maisi-ct-rflow"])
def test_ct_without_a_mask(model: str, small_views: Path) -> None:
    weights = _published(small_views, model)
    words = ["--model", model, "--weights", str(weights), "--region", "chest", "abdomen"]
    words += ["--size", "64", "64", "32", "--spacing", "6", "6", "8", "--steps", "1"]
    assert _generate(words, small_views / "o").shape == (64, 64, 32)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("maisi-mr-rflow", ["--contrast", "t2", "--region", "prostate"]),
        ("maisi-mr-brain-rflow", ["--contrast", "t1", "--skull-stripped"]),
    ],
)
def test_mr_of_a_contrast(model: str, words: list[str], small_views: Path) -> None:
    weights = _published(small_views, model)
    words = ["--model", model, "--weights", str(weights), *words]
    found = _generate([*words, "--spacing", "6", "6", "6", "--steps", "1"], small_views / "o")
    assert found.min() >= 0


def test_a_pair_from_a_wish(random_weights: Path, small_views: Path) -> None:
    """The mask generator of the published size; its image by the embedded model's networks."""
    weights = _published(small_views, wishes.MASK_MODEL)
    table = weights / catalogue.entry(wishes.MASK_MODEL).data["organ-sizes"].name
    table.write_text(
        '[{"organ_size": [0.5, 0.5, 0.5, 0.5, 0.5, -1, -1, 0.3, -1, -1]}]', encoding="utf-8"
    )
    words = ["--organ-size", "liver=0.5", "--mask-steps", "1", "--mask-weights", str(weights)]
    words += ["--weights", str(random_weights), "--steps", "1", "--body", "none"]
    out = small_views / "o"
    code = main(["generate", *words, "--retries", "0", "-o", str(out), "-q"])
    assert code in (0, 4)
    mask = read_labels(out / "wish-0.nii.gz").labels
    assert mask.array.shape == (SIDE,) * 3
    assert not set(TUMOURS) & set(mask.ids()), "nobody wished for a tumour"
