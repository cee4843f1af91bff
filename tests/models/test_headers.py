"""What the headers of weights give away, before any network is built."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from synthct.checkpoints import catalogue
from synthct.checkpoints.store import Weights, locate
from synthct.errors import DamagedWeights, UnsafeWeights, WeightsError
from synthct.models.headers import read_header, refuse_disguised, require_fitting
from synthct.models.maisi.tensors import tensors_of
from synthct.workflows.check import check

ENTRY = catalogue.entry()


@pytest.fixture
def weights(tmp_path: Path) -> Weights:
    """Zeros of the right names and shapes."""
    listed = tensors_of(str(ENTRY.network["spec"]))
    assert listed is not None
    for role, name in ENTRY.files.by_role().items():
        _write(tmp_path / name, {k: np.zeros(s, np.float16) for k, s in listed[role].items()})
    return locate(ENTRY, tmp_path)


def _write(path: Path, tensors: dict[str, np.ndarray]) -> None:
    save_file(tensors, path, metadata={"scale_factor": "0.5"})


def _read(path: Path) -> dict[str, np.ndarray]:
    shapes, _ = read_header(path)
    return {key: np.zeros(shape, np.float16) for key, shape in shapes.items()}


def test_the_embedded_weights_fit() -> None:
    require_fitting(ENTRY, locate(ENTRY))


def test_weights_of_the_right_shapes_fit(weights: Weights) -> None:
    require_fitting(ENTRY, weights)


@pytest.mark.parametrize("role", ["vae", "unet", "controlnet"])
def test_one_renamed_key_is_named_with_both_names(role: str, weights: Weights) -> None:
    tensors = _read(weights.files[role])
    key = next(iter(tensors))
    tensors["other"] = tensors.pop(key)
    _write(weights.files[role], tensors)
    with pytest.raises(DamagedWeights) as caught:
        require_fitting(ENTRY, weights)
    assert f"missing: {key}; unexpected: other" in caught.value.message
    assert role in caught.value.message


def test_another_shape_is_named(weights: Weights) -> None:
    tensors = _read(weights.files["vae"])
    key = next(iter(tensors))
    tensors[key] = np.zeros(7, np.float16)
    _write(weights.files["vae"], tensors)
    with pytest.raises(DamagedWeights, match=r"of another shape: .* \[7\] instead of"):
        require_fitting(ENTRY, weights)


@pytest.mark.parametrize("stated", [{}, {"scale_factor": "big"}, {"scale_factor": "nan"}])
def test_a_u_net_without_its_scale_factor_is_refused(
    stated: dict[str, str], weights: Weights
) -> None:
    save_file(_read(weights.files["unet"]), weights.files["unet"], metadata=stated)
    with pytest.raises(DamagedWeights, match="scale_factor"):
        require_fitting(ENTRY, weights)


def test_check_refuses_what_generate_would(weights: Weights) -> None:
    tensors = _read(weights.files["vae"])
    tensors["other"] = tensors.pop(next(iter(tensors)))
    _write(weights.files["vae"], tensors)
    with pytest.raises(DamagedWeights, match="does not fit the network") as caught:
        check(size=(64, 64, 64), spacing_mm=(4.0, 4.0, 4.0), weights=weights.folder)
    assert caught.value.exit_code == 6


class _Touch:
    """A pickle that would create a folder when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_called_safetensors_is_refused_for_what_it_is(
    protocol: int, weights: Weights, tmp_path: Path
) -> None:
    trap = tmp_path / "ran"
    weights.files["unet"].write_bytes(pickle.dumps(_Touch(trap), protocol=protocol))
    with pytest.raises(UnsafeWeights, match="a pickle, which could run code: refused") as caught:
        check(size=(64, 64, 64), spacing_mm=(4.0, 4.0, 4.0), weights=weights.folder)
    assert caught.value.exit_code == 6
    assert not trap.exists()


def test_pytorchs_archive_called_safetensors_is_refused_too(weights: Weights) -> None:
    weights.files["vae"].write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(UnsafeWeights, match="pickle"):
        refuse_disguised(weights)


@pytest.mark.parametrize("content", [b"{}", b"\x80", bytes(64), b"\xff" * 64, b"text " * 20])
def test_what_is_neither_is_damaged(content: bytes, weights: Weights) -> None:
    weights.files["vae"].write_bytes(content)
    refuse_disguised(weights)
    with pytest.raises(WeightsError, match="no whole safetensors file"):
        require_fitting(ENTRY, weights)


def test_a_header_of_128_bytes_is_no_pickle(tmp_path: Path) -> None:
    """Its first byte is that of a pickle."""
    for count in range(1, 40):
        path = tmp_path / "vae.safetensors"
        save_file({"a" * count: np.zeros(2, np.float16)}, path)
        refuse_disguised(Weights("any", tmp_path, {"vae": path}))


def test_headers_are_read_without_torch() -> None:
    program = "import sys, synthct.models.headers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
