"""Masks by wish: generated from organ sizes with narrow networks, or chosen from a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

from synthct.checkpoints import catalogue, store
from synthct.cli.arguments import spread_lists
from synthct.cli.main import main
from synthct.errors import InputError, UsageError
from synthct.labels.organ_sizes import anatomy_ids, condition, wished_sizes
from synthct.models import networks
from synthct.models.load import load_mask_generator
from synthct.models.maisi.mask_generator import CHANNEL_IDS
from synthct.models.settings import Sampling
from synthct.volume.reading import read_labels
from synthct.workflows import wishes
from synthct.workflows.candidates import choose
from synthct.workflows.phantom import write_phantom
from synthct.workflows.wishes import Wish, generate_wished
from tests.checkpoints.published import random_networks, write_published

FAST = {"steps": 1, "retries": 0}
SIDE = 64
TABLE = [
    [0.1, 0.6, 0.4, 0.3, 0.5, -1, -1, 0.2, -1, -1],
    [0.2, 0.4, 0.5, 0.3, 0.5, -1, -1, -1, -1, -1],
    [0.3, 0.5, 0.5, 0.3, 0.5, 0.4, -1, -1, -1, -1],
]


def _vae() -> AutoencoderKlMaisi:
    return AutoencoderKlMaisi(
        spatial_dims=3, in_channels=8, out_channels=125, latent_channels=4, num_channels=(8, 8, 8),
        num_res_blocks=(1, 1, 1), norm_num_groups=4, norm_eps=1e-6,
        attention_levels=(False, False, False), with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False, use_convtranspose=True, norm_float16=False, num_splits=1,
    )  # fmt: skip


def _unet() -> DiffusionModelUNet:
    return DiffusionModelUNet(
        spatial_dims=3, in_channels=4, out_channels=4, channels=(8, 16), norm_num_groups=4,
        attention_levels=(False, True), num_head_channels=(0, 8), num_res_blocks=1,
        with_conditioning=True, upcast_attention=True, cross_attention_dim=10,
    )  # fmt: skip


@pytest.fixture
def mask_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Narrow networks of the mask generator in its published layout, and a table of sizes."""
    home = tmp_path / "home"
    monkeypatch.setenv("SYNTHCT_HOME", str(home))
    monkeypatch.setattr(networks, "build_mask_autoencoder", _vae)
    monkeypatch.setattr(networks, "build_mask_unet", _unet)
    small = {"shape_min": (SIDE,) * 3, "shape_max": (SIDE,) * 3, "default_steps": 2}
    small |= {"spacing_range_mm": ((4.0, 4.0),) * 3}  # type: ignore[dict-item]
    entries = dict(catalogue.entries())
    entry = entries[wishes.MASK_MODEL].model_copy(update=small)
    entries[wishes.MASK_MODEL] = entry
    monkeypatch.setattr(catalogue, "entries", lambda: entries)
    write_published(home / entry.name, entry, random_networks(entry))
    table = tmp_path / "sizes.json"
    table.write_text(json.dumps([{"organ_size": row} for row in TABLE]))
    monkeypatch.setattr(store, "data_file", lambda entry, name: table)
    yield


def test_the_channels_are_the_published_ones() -> None:
    assert len(CHANNEL_IDS) == len(set(CHANNEL_IDS)) == 125
    named = {0: 0, 1: 1, 2: 3, 14: 15, 15: 17, 17: 22, 18: 23, 113: 120, 121: 128, 123: 132}
    assert {channel: CHANNEL_IDS[channel] for channel in named} == named
    assert CHANNEL_IDS[124] == 200


def test_ten_numbers_from_wishes_and_the_closest_row() -> None:
    sizes = condition(anatomy_ids(["liver"]), wished_sizes(["liver=0.45"]), TABLE)
    assert sizes == (0.2, 0.45, 0.5, 0.3, 0.5, -1, -1, -1, -1, -1)
    tumour = condition(anatomy_ids(["liver", "hepatic tumor"]), wished_sizes(["liver=0.5"]), TABLE)
    assert tumour == (0.1, 0.5, 0.4, 0.3, 0.5, -1, -1, 0.2, -1, -1)
    assert condition((), {}, TABLE[2:])[5] == -1, "a tumour that nobody wished for"
    assert condition((), {23: 0.7}, TABLE)[5] == 0.7


@pytest.mark.parametrize(
    ("anatomy", "sizes"),
    [
        (["no such thing"], []),
        ([], ["liver"]),
        ([], ["liver=2"]),
        ([], ["spleen=0.5"]),
        (["lung tumor", "hepatic tumor"], []),
        (["colon cancer primaries"], []),
    ],
    ids=str,
)
def test_wishes_that_cannot_be(anatomy: list[str], sizes: list[str]) -> None:
    with pytest.raises(UsageError):
        condition(anatomy_ids(anatomy), wished_sizes(sizes), TABLE)


@pytest.mark.usefixtures("mask_generator")
def test_the_label_is_that_of_the_likeliest_channel_of_monais_decoder() -> None:
    entry = catalogue.entry(wishes.MASK_MODEL)
    generator = load_mask_generator(entry, None, torch.device("cpu"))
    shape = (32, 32, 32)
    latent = torch.randn(1, 4, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scores = generator.autoencoder.decode(latent)[0]
    best = np.asarray(CHANNEL_IDS, np.uint8)[scores.argmax(0).numpy()]
    found = generator._labels(latent, shape, lambda *_: None)
    assert (found == best).mean() > 0.999  # rounding may decide between two that are equal
    sampling = Sampling(0, 0, 2, "ddpm")
    one, other = (generator.generate((size,) * 10, shape, sampling) for size in (0.1, 0.9))
    assert not np.array_equal(one, other), "sizes must steer"


@pytest.mark.usefixtures("mask_generator")
def test_paired_image_and_mask_from_a_wish(random_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    wish = Wish(organ_sizes=("liver=0.5",))
    words = {"weights": random_weights, "body": "none", **FAST}
    report = generate_wished(wish, output=out, samples=2, seed=3, **words)  # type: ignore[arg-type]
    assert [case.summary.seed for case in report.cases] == [3, 4]
    masks = [read_labels(out / f"wish-{seed}.nii.gz").labels for seed in (3, 4)]
    assert set(masks[0].ids()) <= set(CHANNEL_IDS)
    assert not np.array_equal(masks[0].array, masks[1].array)
    labels = report.cases[0].labels
    assert labels is not None
    known = masks[0].array != 129  # a kidney mass: body here, for the scheme keeps its id free
    np.testing.assert_array_equal(labels.array[known], masks[0].array[known])
    assert (labels.array[~known] == 200).all()
    sidecar = report.cases[0].sidecar
    assert sidecar is not None and sidecar.mask is not None
    assert sidecar.mask.file == "wish-3.nii.gz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("masks")
    for region in ("chest", "abdomen", "head"):
        write_phantom(path / f"{region}.nii.gz", region=region, spacing_mm=(8.0, 8.0, 8.0), seed=1)
    return path


def test_masks_of_a_folder_by_region_structure_and_spacing(folder: Path) -> None:
    def names(*words: object) -> list[str]:
        return [one.path.name for one in choose(folder, *words)]  # type: ignore[arg-type]

    assert names() == ["abdomen.nii.gz", "chest.nii.gz", "head.nii.gz"]
    assert names((), ("head",)) == ["head.nii.gz"]
    assert names(anatomy_ids(["brain"])) == ["head.nii.gz"]
    assert "head.nii.gz" not in names(anatomy_ids(["liver"]))
    assert len(names((), (), (8.0, 8.0, 8.2))) == 3
    with pytest.raises(InputError) as refused:
        names(anatomy_ids(["brain"]), ("head",), (2.0, 2.0, 2.0))
    assert "head.nii.gz" in refused.value.hint and "spacing" in refused.value.hint
    with pytest.raises(InputError):
        choose(folder / "nowhere")


def test_generate_with_a_mask_of_the_folder(
    folder: Path, random_weights: Path, tmp_path: Path
) -> None:
    words = ["generate", "--mask-dir", str(folder), "--anatomy", "brain", "--region", "head"]
    words += ["--weights", str(random_weights), "--steps", "1", "--retries", "0"]
    assert main([*words, "-o", str(tmp_path), "-q"]) in (0, 4)
    assert {p.name for p in tmp_path.rglob("*_ct.nii.gz")} == {"head_seed-0_ct.nii.gz"}
    assert main([*words, "--mask", "m.nii.gz"]) == 2
    assert main([*words, "--organ-size", "liver=0.5", "-o", str(tmp_path / "b")]) == 2


def test_words_in_a_row_on_the_command_line() -> None:
    line = ["generate", "--anatomy", "liver", "hepatic tumor", "--organ-size", "liver=0.5", "-q"]
    read = ["--anatomy", "liver", "--anatomy", "hepatic tumor", "--organ-size", "liver=0.5", "-q"]
    assert spread_lists(line) == ["generate", *read]
