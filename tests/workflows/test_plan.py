"""`plan`: known models by name, no weights, no torch; exit 5 names the smallest budget."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthct.checkpoints.catalogue import entries
from synthct.cli.main import main
from synthct.errors import MemoryBudgetError, UsageError
from synthct.workflows.plan import known_models, plan

SMALL = ["--size", "256", "256", "128", "--device", "cpu"]
IMAGE_MODELS = tuple(e.name for e in entries().values() if e.task != "mask-generator")


def _document(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = main(["plan", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_published_models_are_known_without_their_weights() -> None:
    published = {"maisi-ct-ddpm", "maisi-ct-rflow", "maisi-mr-rflow", "maisi-mr-brain-rflow"}
    assert published | {"maisi-mini-ct"} <= set(known_models())
    for name in known_models():
        report = plan(model=name, size=(128, 128, 64), device="cpu")
        assert report.memory.peak_bytes > report.memory.resident_bytes
        assert report.fed == (128, 128, 64)


@pytest.mark.parametrize("stage", ["all", "sample", "decode"])
def test_exit_5_names_the_smallest_budget_that_works(
    stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", "maisi-ct-rflow", "--stage", stage, *SMALL]
    code, refused = _document(capsys, *words, "--max-memory", "64M")
    least = refused["error"]["minimum"]
    assert (code, refused["error"]["code"]) == (5, 5)
    code, found = _document(capsys, *words, "--max-memory", f"{-(-least // 1024)}K")
    assert code == 0
    assert found["memory"]["minimum_bytes"] == least
    code, _ = _document(capsys, *words, "--max-memory", f"{int(0.9 * least) // 1024}K")
    assert code == 5


@given(
    model=st.sampled_from(IMAGE_MODELS),
    size=st.tuples(*[st.integers(1, 400)] * 3),
    stage=st.sampled_from(["all", "sample", "decode"]),
    device=st.sampled_from(["cpu", "cuda"]),
    dtype=st.sampled_from(["auto", "float32", "bfloat16"]),
)
@settings(max_examples=15)
def test_the_named_minimum_works_and_nine_tenths_of_it_do_not(
    model: str, size: tuple[int, int, int], stage: str, device: str, dtype: str
) -> None:
    words = {"model": model, "size": size, "stage": stage, "device": device, "dtype": dtype}
    with pytest.raises(MemoryBudgetError) as refused:
        plan(**words, max_memory_bytes=1)
    least = refused.value.minimum
    assert least is not None
    found = plan(**words, max_memory_bytes=least)
    assert found.memory.peak_bytes <= least
    with pytest.raises(MemoryBudgetError):
        plan(**words, max_memory_bytes=int(0.9 * least))


def test_the_document_has_what_the_help_says(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = _document(capsys, *SMALL, "--max-memory", "8G")
    assert code == 0
    assert set(found) == {"model", "size", "fed", "latent", "steps", "memory", "time"}
    assert set(found["time"]) == {"seconds", "macs_per_second", "rate", "stages"}
    memory = found["memory"]
    assert set(memory) == {
        *("device", "devices", "allowed_bytes", "resident_bytes", "peak_bytes", "minimum_bytes"),
        *("work_macs", "streamed", "choice", "stages"),
    }
    keys = {"name", "precision", "peak_bytes", "minimum_bytes", "work_macs", "choice", "schedule"}
    assert all(set(stage) == keys for stage in memory["stages"])
    assert main(["plan", "--help"]) == 0
    page = capsys.readouterr().out
    assert all(word in page for word in (*found, *memory, *keys))


def test_the_text_goes_stage_by_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *SMALL, "--max-memory", "4G"]) == 0
    said = capsys.readouterr().out
    for words in (
        "SAMPLING",
        "U-Net down",
        "ControlNet",
        "DECODING",
        "slabs",
        "peak",
        "smallest",
        "an estimate",
    ):
        assert words in said


def test_sides_are_padded_to_what_the_network_is_fed() -> None:
    report = plan(model="maisi-ct-rflow", size=(100, 97, 33), device="cpu", stage="sample")
    assert report.fed == (128, 128, 64)
    assert report.as_dict()["latent"] == [32, 32, 16]


@pytest.mark.parametrize(
    "words",
    [
        {"size": (0, 64, 64)},
        {"size": (64, 64, 64), "model": "nobody"},
        {"size": (64, 64, 64), "device": "gpu"},
        {"size": (64, 64, 64), "colour": "blue"},
    ],
    ids=str,
)
def test_other_words_are_usage_errors(words: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        plan(**words)
    assert "\n" not in refused.value.message


def test_plan_loads_no_torch() -> None:
    program = (
        "import sys\n"
        "from synthct.cli.main import main\n"
        "code = main(['plan', '--size', '256', '256', '128', '-q'])\n"
        "sys.exit('torch was loaded' if {'torch', 'monai'} & set(sys.modules) else code)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    assert run.returncode == 0, run.stderr
