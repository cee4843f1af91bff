"""The plan of a run keeps to its budget, and says what the smallest is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthct.errors import MemoryBudgetError
from synthct.models.maisi.footprint import Cost
from synthct.models.maisi.spec import preset
from synthct.workflows import machine
from synthct.workflows.memory import Job, RunPlan, StageName, plan_run, smaller, told_smaller

GIB = 2**30
LARGE = (512, 512, 768)


@pytest.fixture(autouse=True)
def one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans must not depend on where the tests run: slow in bfloat16, no room to spill."""
    monkeypatch.setattr(machine, "fast_bfloat16", lambda kind: kind == "cuda")
    monkeypatch.setattr(machine, "spill_room", lambda folder: 0)
    monkeypatch.setattr(machine, "host_room", lambda: 0)


def _job(name: str = "ct-rflow", size: tuple[int, int, int] = (128, 128, 64)) -> Job:
    return Job(preset(name), fed=size, inner=size, asked=size, steps=30)


def _least(job: Job) -> int:
    with pytest.raises(MemoryBudgetError) as refused:
        plan_run(replace(job, budget_bytes=2**20))
    assert refused.value.minimum is not None
    return refused.value.minimum


@pytest.mark.parametrize(
    ("name", "device", "stage"),
    [
        ("mini-ct", "cpu", None),
        ("mini-ct", "cuda", "decode"),
        ("ct-ddpm", "cpu", "decode"),
        ("ct-rflow", "cpu", "sample"),
        ("mr-rflow", "cuda", None),
    ],
)
def test_the_smallest_budget_works_and_less_does_not(
    name: str, device: str, stage: StageName | None
) -> None:
    job = replace(_job(name), device=device, stage=stage, masked=preset(name).controlnet)
    least = _least(job)
    plan = plan_run(replace(job, budget_bytes=least))
    assert plan.minimum_bytes == least
    assert plan.peak_bytes <= least
    for less in (least - 1, int(0.9 * least)):
        with pytest.raises(MemoryBudgetError) as refused:
            plan_run(replace(job, budget_bytes=less))
        assert refused.value.as_dict()["minimum"] == least


@given(share=st.floats(0, 1))
@settings(max_examples=8)
def test_every_budget_is_kept(share: float) -> None:
    job = _job("mini-ct")
    generous, least = plan_run(job).peak_bytes, _least(job)
    budget = int(least + share * (generous - least))
    plan = plan_run(replace(job, budget_bytes=budget))
    assert plan.peak_bytes <= budget


def test_more_memory_is_never_more_work() -> None:
    job = replace(_job(), stage="decode", precision="float32")
    least = _least(job)
    work = [plan_run(replace(job, budget_bytes=f * least)).work_macs for f in (1, 2, 8)]
    assert work == sorted(work, reverse=True)
    assert work[-1] == plan_run(job).work_macs


def test_where_the_sampler_does_not_fit_in_float32_the_plan_says_bfloat16() -> None:
    job = replace(_job(size=LARGE), stage="sample")
    roomy = plan_run(job)
    assert roomy.execution.sampling == "float32"
    narrow = plan_run(replace(job, budget_bytes=roomy.peak_bytes - 1))
    assert narrow.execution.sampling == "bfloat16"
    assert "float32 needs" in narrow.choice
    with pytest.raises(MemoryBudgetError):
        plan_run(replace(job, budget_bytes=roomy.peak_bytes - 1, precision="float32"))


def test_a_device_that_is_fast_in_bfloat16_samples_in_it() -> None:
    assert plan_run(replace(_job(), device="cuda")).execution.sampling == "bfloat16"
    assert plan_run(replace(_job(), device="mps")).execution.sampling == "float32"


def test_the_published_sampler_fits_16_gib_at_the_largest_size() -> None:
    """With MONAI's own CPU attention one layer alone would take 72 GiB there."""
    plan = plan_run(replace(_job(size=LARGE), stage="sample", budget_bytes=16 * GIB))
    assert plan.execution.sampling == "float32"
    assert plan.peak_bytes < 16 * GIB


def test_disk_to_spill_to_lowers_what_decoding_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    job = replace(_job(), stage="decode", spill_folder=Path("here"))
    without = _least(job)
    monkeypatch.setattr(
        machine, "spill_room", lambda folder: 2**40 if folder == Path("here") else 0
    )
    other = replace(job, steps=31)  # minima are remembered by job
    assert _least(other) < without
    execution = plan_run(replace(other, budget_bytes=_least(other))).execution
    assert (execution.spill_bytes, execution.spill_folder) == (2**40, Path("here"))


def test_the_image_streams_where_the_budget_asks_for_it() -> None:
    """A small patient in a wide view: nothing else takes as much as the image."""
    job = replace(_job("mini-ct"), inner=(512, 512, 256), asked=(512, 512, 256))
    roomy = plan_run(job)
    assert not roomy.execution.streamed
    narrow = plan_run(replace(job, budget_bytes=_least(job)))
    assert narrow.execution.streamed
    assert narrow.stages[-1].peak_bytes < roomy.stages[-1].peak_bytes
    assert "streams into a temporary file" in narrow.choice
    unstreamed = _least(replace(job, streamable=False))
    assert unstreamed > _least(job)
    kept = plan_run(replace(job, streamable=False, budget_bytes=unstreamed))
    assert not kept.execution.streamed


def test_streaming_leaves_the_result_out_of_decoding() -> None:
    """Four bytes a voxel less in the smallest plan: what the float image takes."""
    job = replace(_job("mini-ct", (256, 256, 256)), stage="decode")
    saved = _least(replace(job, streamable=False)) - _least(job)
    assert saved == pytest.approx(4 * 256**3, rel=0.1)


def test_images_that_wait_in_memory_count() -> None:
    job = replace(_job("mini-ct", (256, 256, 256)), streamable=False)
    more = _least(replace(job, kept=3)) - _least(job)
    assert more == 3 * 2 * 256**3
    assert _least(replace(job, streamable=True, kept=3)) == _least(replace(job, streamable=True))


def test_a_host_that_cannot_hold_the_image_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    job = replace(_job("mini-ct", (256, 256, 256)), device="cuda")
    assert not plan_run(job).execution.streamed
    monkeypatch.setattr(machine, "host_room", lambda: 22 * 256**3 - 1)
    assert plan_run(replace(job, steps=31)).execution.streamed


def test_memory_that_runs_out_is_answered_until_nothing_smaller_is_known() -> None:
    job = _job()
    how = replace(plan_run(job).execution, sampling="float32", mask_tile=192)
    tried = [how]
    while (found := smaller(job, tried[-1], "embedding")) is not None:
        assert told_smaller(tried[-1], found)
        tried.append(found)
    assert [one.mask_tile for one in tried] == [192, 128, 96, 64, 32, 32]
    assert [one.sampling for one in tried] == ["float32"] * 5 + ["bfloat16"]
    assert smaller(job, how, "sampling") == replace(how, sampling="bfloat16")
    assert smaller(replace(job, precision="float32"), how, "sampling") is None
    assert smaller(replace(job, device="mps"), how, "sampling") is None


def test_the_branches_of_guidance_are_at_once_where_that_fits() -> None:
    job = replace(_job("ct-rflow"), stage="sample", guided=Cost(2, 2, 1))
    roomy = plan_run(job)
    assert roomy.execution.together and "2 branches of guidance at once" in roomy.choice
    tight = plan_run(replace(job, budget_bytes=roomy.peak_bytes - 1))
    assert not tight.execution.together and tight.peak_bytes < roomy.peak_bytes
    assert tight.execution.sampling == roomy.execution.sampling == "float32"
    assert "one after the other (at once needs" in tight.choice
    assert plan_run(replace(job, budget_bytes=_least(job))).peak_bytes <= _least(job)
    large = replace(job, fed=(256, 256, 256), guided=Cost(2, 1, 2))
    assert not plan_run(large).execution.together, "a batch of these is no quicker"
    assert "branches" not in plan_run(replace(job, guided=Cost())).choice


def test_memory_that_runs_out_in_a_batch_is_answered_without_one() -> None:
    job = replace(_job(), guided=Cost(2, 2, 1))
    how = replace(plan_run(job).execution, together=True)
    found = smaller(job, how, "sampling")
    assert found == replace(how, together=False)
    assert told_smaller(how, found) == "with the branches of guidance one after the other"


def test_the_document_names_every_stage_and_adds_up() -> None:
    plan: RunPlan = plan_run(replace(_job(), budget_bytes=16 * GIB))
    document = plan.as_dict()
    assert [stage["name"] for stage in document["stages"]] == ["sampling", "decoding", "finishing"]
    assert document["peak_bytes"] == max(stage["peak_bytes"] for stage in document["stages"])
    assert document["work_macs"] == sum(stage["work_macs"] for stage in document["stages"])
    assert document["peak_bytes"] <= 16 * GIB
    assert document["resident_bytes"] < document["minimum_bytes"] <= document["peak_bytes"]
    assert "\n" not in document["choice"]
