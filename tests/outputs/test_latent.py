"""A latent's file: what goes in comes out, and nothing else is taken for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthct.errors import InputError, UsageError
from synthct.outputs.latent import LatentRecord, latent_path, read_latent, write_latent

RECORD = LatentRecord(
    model="maisi-mini-ct",
    vae_sha256="0" * 64,
    modality="CT",
    unit_range=(-1000.0, 1000.0),
    shape=(8, 6, 4),
    affine=np.diag([2.0, -3.0, 4.0, 1.0]).tolist(),
    tool_version="0",
)
LATENT = np.arange(4 * 4 * 3 * 2, dtype=np.float32).reshape(4, 4, 3, 2)


def test_a_round_trip(tmp_path: Path) -> None:
    write_latent(tmp_path / "a.npz", LATENT, RECORD)
    latent, record = read_latent(tmp_path / "a.npz")
    assert (latent == LATENT).all()
    assert record == RECORD
    assert record.geometry.spacing_mm == (2.0, 3.0, 4.0)
    with pytest.raises(UsageError):
        write_latent(tmp_path / "a.npz", LATENT, RECORD)


def test_the_suffix_is_added_once() -> None:
    assert latent_path(Path("a/latent")) == Path("a/latent.npz")
    assert latent_path(Path("a.npz")) == Path("a.npz")


@pytest.mark.parametrize("kind", ["absent", "text", "cut", "other", "pickled", "nan"])
def test_what_is_no_latent(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    if kind == "text":
        path.write_text("latent", encoding="utf-8")
    elif kind == "other":
        np.savez(path, image=LATENT)
    elif kind == "pickled":
        np.savez(path, latent=np.array([{}], dtype=object), record=np.array("{}"))
    elif kind != "absent":
        write_latent(path, LATENT * (np.nan if kind == "nan" else 1), RECORD)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError) as caught:
        read_latent(path)
    assert caught.value.exit_code == 3
