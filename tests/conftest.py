"""Fixtures that every floor shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch is imported, here or in a process that a test starts: workers share the cores.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _WORKERS)))

# Minutes each. Workers take whole files: one of these at the end would leave the others idle.
_LONG = (
    "test_modes_embedded",
    "test_out_of_memory",
    "test_generate",
    "test_wishes",
    "test_embedded",
    "test_streaming",
    "test_footprint",
    "test_several",
    "test_sampler_parity",
    "test_leakage",
)

_DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"

# Machines are shared and slow now and then; a slow example is not a wrong one.
settings.register_profile("synthct", deadline=None)
settings.load_profile("synthct")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first; else in the order in which they were found."""
    rank = {name: place for place, name in enumerate(_LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(_LONG)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of openly licensed scans; not on a user's machine."""
    folder = Path(os.environ.get("SYNTHCT_SHARED_DATA", _DEFAULT))
    if not (folder / "ct").is_dir():
        pytest.skip("the shared scans (../shared/data) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the embedded model's shapes with untrained, seeded values."""
    import torch

    from synthct.models.maisi import networks
    from synthct.models.maisi.spec import preset
    from synthct.workflows.train import write_half

    folder = tmp_path_factory.mktemp("random-weights")
    spec = preset("mini-ct")
    torch.manual_seed(0)
    write_half(folder / "vae.safetensors", networks.build_autoencoder(spec.autoencoder), {})
    write_half(folder / "unet.safetensors", networks.build_unet(spec), {"scale_factor": "0.5"})
    write_half(folder / "controlnet.safetensors", networks.build_controlnet(spec), {})
    return folder


@pytest.fixture(scope="session")
def small_mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A coarse chest-abdomen phantom with the names in its header."""
    from synthct.workflows.phantom import write_phantom

    path = tmp_path_factory.mktemp("mask") / "seg.nii.gz"
    write_phantom(path, region="abdomen", spacing_mm=(8.0, 8.0, 8.0), seed=1)
    return path
