"""Masks by wish: generated from organ sizes with narrow networks, or chosen from a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthct.checkpoints import catalogue
from synthct.cli.arguments import spread_lists
from synthct.cli.main import main
from synthct.errors import (
    DamagedWeights,
    MemoryBudgetError,
    MissingWeights,
    SynthctError,
    UsageError,
)
from synthct.labels.organ_sizes import anatomy_ids, condition, wished_sizes
from synthct.models.load import load_mask_generator
from synthct.models.maisi import mask_spec
from synthct.models.maisi.mask_generator import CHANNEL_IDS, MaskGenerator
from synthct.models.maisi.mask_spec import MaskAutoencoderSpec
from synthct.models.settings import Execution, Sampling
from synthct.outputs.sidecar import RunRecord, read_record
from synthct.volume.reading import read_labels
from synthct.workflows import generate as generating
from synthct.workflows import wishes
from synthct.workflows.mask_plan import MaskJob, plan_mask
from synthct.workflows.wishes import Wish, generate_wished, size_table
from tests.checkpoints.published import random_networks, write_published

FAST = {"steps": 1, "retries": 0}
SIDE = 64
TABLE = [
    [0.1, 0.6, 0.4, 0.3, 0.5, -1, -1, 0.2, -1, -1],
    [0.2, 0.4, 0.5, 0.3, 0.5, -1, -1, -1, -1, -1],
    [0.3, 0.5, 0.5, 0.3, 0.5, 0.4, -1, -1, -1, -1],
]


NARROW = replace(
    mask_spec.MASK_SPEC,
    autoencoder=MaskAutoencoderSpec((8, 8, 8), (1, 1, 1), 4, 4),
    unet=replace(
        mask_spec.MASK_SPEC.unet,
        num_channels=(8, 16),
        num_res_blocks=1,
        attention_levels=(False, True),
        num_head_channels=(0, 8),
        norm_num_groups=4,
    ),
)


@pytest.fixture
def mask_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Narrow networks of the mask generator in its published layout, and a table of sizes."""
    home = tmp_path / "home"
    monkeypatch.setenv("SYNTHCT_HOME", str(home))
    monkeypatch.setattr(mask_spec, "MASK_SPEC", NARROW)
    small = {"shape_min": (SIDE,) * 3, "shape_max": (SIDE,) * 3, "default_steps": 2}
    small |= {"spacing_range_mm": ((4.0, 4.0),) * 3}  # type: ignore[dict-item]
    entries = dict(catalogue.entries())
    entry = entries[wishes.MASK_MODEL].model_copy(update=small)
    entries[wishes.MASK_MODEL] = entry
    monkeypatch.setattr(catalogue, "entries", lambda: entries)
    write_published(home / entry.name, entry, random_networks(entry))
    table = tmp_path / "sizes.json"
    table.write_text(json.dumps([{"organ_size": row} for row in TABLE]), encoding="utf-8")
    shutil.copy(table, home / entry.name / entry.data["organ-sizes"].name)
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
    found = generator._labels(latent, shape, Execution("float32", 0), lambda *_: None)
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


@pytest.mark.usefixtures("mask_generator")
def test_several_samples_are_one_run_and_load_the_networks_once(
    random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    for name in ("load_generator", "load_mask_generator"):
        module = generating if name == "load_generator" else wishes
        monkeypatch.setattr(module, name, _counting(getattr(module, name), loaded))
    out = tmp_path / "out"
    words = {"weights": random_weights, "body": "none", **FAST}
    wish = Wish(organ_sizes=("liver=0.5",))
    report = generate_wished(wish, output=out, samples=3, **words)  # type: ignore[arg-type]
    assert loaded == ["load_mask_generator", "load_generator"], "masks first, then images"
    run = read_record(out / "run.json", RunRecord)
    assert run.earlier == []
    assert [case.seed for case in run.cases] == [0, 1, 2] and len(report.cases) == 3
    assert run.request["mask"] == {str(seed): f"wish-{seed}.nii.gz" for seed in range(3)}
    assert run.request["organ_sizes"] == ["liver=0.5"] and run.request["samples"] == 3
    assert "wished mask" in run.seconds
    (out / "wish-1_seed-1_ct.nii.gz").unlink(missing_ok=True)
    shutil.rmtree(out / "rejected", ignore_errors=True)
    words["resume"] = True
    again = generate_wished(wish, output=out, samples=3, **words)  # type: ignore[arg-type]
    assert [case.summary.seed for case in again.cases] == [0, 1, 2]
    assert loaded.count("load_mask_generator") == 1, "masks that are there are kept"


def _counting(function: Any, told: list[str]) -> Any:
    def counted(*words: Any) -> Any:
        told.append(function.__name__)
        return function(*words)

    return counted


@pytest.mark.usefixtures("mask_generator")
def test_refused_before_the_mask_generator_runs(
    random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("nothing may be loaded")

    monkeypatch.setattr(wishes, "load_mask_generator", never)
    wish, out = Wish(organ_sizes=("liver=0.5",)), tmp_path / "out"
    refused: list[tuple[type[SynthctError], dict[str, Any]]] = [
        (UsageError, {"sampler": "dpm++"}),
        (UsageError, {"contrast": "t1"}),
        (UsageError, {"size": (64, 64, 64)}),
        (UsageError, {"device": "cuda:99"}),
        (UsageError, {"labels": "totalsegmentator"}),
        (MissingWeights, {"model": "maisi-ct-rflow", "weights": tmp_path}),
        (MemoryBudgetError, {"max_memory_bytes": 2**27}),
    ]
    for error, words in refused:
        asked = {"weights": random_weights, **FAST, **words}
        with pytest.raises(error):
            generate_wished(wish, output=out, **asked)


@pytest.mark.usefixtures("mask_generator")
def test_the_mask_generator_keeps_to_the_plan(
    random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Sampling] = []
    generate = MaskGenerator.generate

    def listen(self: MaskGenerator, sizes: Any, shape: Any, sampling: Sampling, stage: Any) -> Any:
        told.append(sampling)
        return generate(self, sizes, shape, sampling, stage)

    monkeypatch.setattr(MaskGenerator, "generate", listen)
    job = MaskJob((SIDE,) * 3, 1)
    with pytest.raises(MemoryBudgetError) as refused:
        plan_mask(replace(job, budget_bytes=2**27))
    least = refused.value.minimum
    assert least is not None
    tight = plan_mask(replace(job, budget_bytes=least))
    assert tight.peak_bytes <= least == tight.minimum_bytes
    words = {"weights": random_weights, "body": "none", "max_memory_bytes": 2**29, **FAST}
    wish = Wish(organ_sizes=("liver=0.5",), mask_steps=1)
    generate_wished(wish, output=tmp_path / "out", **words)
    assert told[0].sampler == "dpm++" and told[0].steps == 1, "fewer steps than its own"
    how = told[0].execution
    assert how is not None and how.decoding_bytes is not None and how.decoding_bytes < 2**29


@pytest.mark.usefixtures("mask_generator")
def test_the_mask_generator_s_weights_from_a_folder(
    random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "home" / wishes.MASK_MODEL, moved)
    words = ["generate", "--organ-size", "liver=0.5", "--body", "none", "--steps", "1"]
    words += ["--weights", str(random_weights), "--retries", "0", "-q"]
    assert main([*words, "-o", str(tmp_path / "a")]) == 6
    assert main([*words, "--mask-weights", str(moved), "-o", str(tmp_path / "b")]) in (0, 4)
    assert (tmp_path / "b" / "wish-0.nii.gz").is_file()
    monkeypatch.delenv("SYNTHCT_HOME")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "[[1, 2]]",
        '[{"organ_size": 3}]',
        '[{"sizes": [0]}]',
        '[[0,0,0,0,0,0,0,0,0,"x"]]',
    ],
)
def test_a_table_of_sizes_that_is_none(text: str, tmp_path: Path) -> None:
    entry = catalogue.entry(wishes.MASK_MODEL)
    path = tmp_path / entry.data["organ-sizes"].path
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DamagedWeights):
        size_table(entry, tmp_path)


def test_both_forms_of_the_table_of_sizes(tmp_path: Path) -> None:
    entry = catalogue.entry(wishes.MASK_MODEL)
    path = tmp_path / entry.data["organ-sizes"].name
    for rows in (TABLE, [{"organ_size": row, "case": "x"} for row in TABLE]):
        path.write_text(json.dumps(rows), encoding="utf-8")
        assert size_table(entry, tmp_path) == TABLE


def test_words_in_a_row_on_the_command_line() -> None:
    line = ["generate", "--anatomy", "liver", "hepatic tumor", "--organ-size", "liver=0.5", "-q"]
    read = ["--anatomy", "liver", "--anatomy", "hepatic tumor", "--organ-size", "liver=0.5", "-q"]
    assert spread_lists(line) == ["generate", *read]
