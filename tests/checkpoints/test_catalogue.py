"""The catalogue is typed, consistent, and known without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from synthct.checkpoints import catalogue
from synthct.errors import UsageError


def test_the_default_stands_first_and_is_embedded() -> None:
    assert catalogue.names()[0] == catalogue.DEFAULT_MODEL
    assert catalogue.entry().embedded
    assert set(catalogue.entry().files.by_role()) == {"vae", "unet", "controlnet"}


@pytest.mark.parametrize("name", catalogue.names())
def test_every_entry_can_answer_some_request(name: str) -> None:
    entry = catalogue.entry(name)
    assert entry.name == name
    for axis in range(3):
        coarsest = entry.spacing_range_mm[axis][1]
        assert entry.shape_max[axis] * coarsest >= entry.fov_min_mm[axis]
        assert entry.shape_max[axis] >= entry.grid_multiple


def test_an_unknown_model_lists_those_that_exist() -> None:
    with pytest.raises(UsageError, match=catalogue.DEFAULT_MODEL) as caught:
        catalogue.entry("maisi-maxi")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "change",
    [
        {"spacing_range_mm": ((5, 2), (2, 5), (2, 5))},
        {"grid_multiple": 3},
        {"shape_min": (512, 512, 512)},
        {"fov_min_mm": (9999, 9999, 9999)},
        {"default_steps": 0},
        {"sampler": "magic"},
        {"colour": "blue"},
        {"sha256": {"vae": "abc"}},
        {"hub": {"vae": {"repo": "a/b", "path": "c.pt"}}},
        {"skull_stripped": {"t1": 29}},
    ],
)
def test_an_inconsistent_entry_is_refused(change: dict[str, Any]) -> None:
    values = catalogue.entry().model_dump() | change
    with pytest.raises(ValidationError):
        catalogue.Entry.model_validate(values)


HUB = [name for name in catalogue.names() if catalogue.entry(name).hub]


def test_the_published_models_are_there() -> None:
    assert set(HUB) == {
        "maisi-ct-ddpm",
        "maisi-ct-rflow",
        "maisi-mr-rflow",
        "maisi-mr-brain-rflow",
        "maisi-mask-generator",
    }


def test_steps_guidance_and_licences_are_those_published() -> None:
    steps = {name: catalogue.entry(name).default_steps for name in HUB}
    assert steps["maisi-ct-ddpm"] == steps["maisi-mask-generator"] == 1000
    assert {steps[name] for name in HUB if name.endswith("rflow")} == {30}
    guidance = {name: catalogue.entry(name).default_guidance for name in HUB}
    assert {guidance[name] for name in HUB if catalogue.entry(name).modality == "MR"} == {10}
    assert {guidance[name] for name in HUB if catalogue.entry(name).modality == "CT"} == {0}
    assert [n for n in HUB if catalogue.entry(n).noncommercial] == ["maisi-mr-rflow"]
    assert all(catalogue.entry(name).licence_url.startswith("https://") for name in HUB)


def test_modality_codes_by_name() -> None:
    assert catalogue.entry("maisi-ct-rflow").contrasts == {"none": 2, "enhanced": 3}
    brain = catalogue.entry("maisi-mr-brain-rflow")
    assert brain.contrasts == {"t1": 9, "t2": 10, "flair": 11, "mra": 16, "swi": 20}
    assert brain.skull_stripped == {"t1": 29, "t2": 30, "flair": 31, "swi": 32, "mra": 33}


@pytest.mark.parametrize("name", HUB)
def test_every_recommended_field_of_view_is_one_that_the_model_takes(name: str) -> None:
    entry = catalogue.entry(name)
    assert entry.default_field_of_view in entry.fields_of_view
    for row in entry.fields_of_view:
        for axis in range(3):
            assert entry.fov_min_mm[axis] <= row.mm[axis] <= entry.fov_max_mm[axis]
        assert row.contrast is None or row.contrast in entry.contrasts
        if row.size is None or row.spacing_mm is None:
            continue
        assert entry.sizes is not None
        assert row.size[0] == row.size[1]
        assert row.size[0] in entry.sizes.in_plane
        assert row.size[2] in entry.sizes.slices
        for axis in range(3):
            assert row.mm[axis] == pytest.approx(row.size[axis] * row.spacing_mm[axis], abs=0.06)
            low, high = entry.spacing_range_mm[axis]
            assert low <= row.spacing_mm[axis] <= high


def test_no_checksum_is_made_up() -> None:
    """None was published with the facts we have: the first pull records them."""
    files = [file for name in HUB for file in catalogue.entry(name).hub.values()]
    assert all(file.sha256 is None and file.revision is None for file in files)


def test_somebody_elses_folder_in_the_cache_is_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHCT_HOME", str(tmp_path))
    for name, text in (("a", "[]"), ("b", "{"), ("c", '{"model": "nothing"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / catalogue.IMPORT_RECORD).write_text(text, encoding="utf-8")
    assert catalogue.imported() == {}


def test_entries_are_frozen() -> None:
    with pytest.raises(ValidationError):
        catalogue.entry().default_steps = 3


def test_no_torch() -> None:
    code = (
        "import sys; from synthct.checkpoints import catalogue, store; "
        "catalogue.entries(); print('torch' in sys.modules or 'monai' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("path", ["../up.pt", "/etc/passwd", ""])
def test_a_path_out_of_the_repository_is_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        catalogue.HubFile(repo="owner/name", path=path)


def test_the_page_has_every_published_model_as_it_is() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "weights.md"
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
    for entry in (catalogue.entry(name) for name in HUB):
        row = next(row for row in rows if row.startswith(f"| `{entry.name}` "))
        steps, guidance, licence = (cell.strip() for cell in row.strip(" |").split("|")[2:])
        assert (int(steps), float(guidance)) == (entry.default_steps, entry.default_guidance)
        assert licence == entry.licence
