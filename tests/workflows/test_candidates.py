"""Masks chosen from a folder, or of the published collection."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

from synthct.cli.main import main
from synthct.errors import (
    InputError,
    UsageError,
)
from synthct.labels.organ_sizes import anatomy_ids
from synthct.volume.reading import read_labels
from synthct.workflows import wishes
from synthct.workflows.candidates import choose
from synthct.workflows.phantom import write_phantom
from synthct.workflows.wishes import Wish, generate_wished

FAST = {"steps": 1, "retries": 0}


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


# ---- the published collection: a zip of masks and a table --------------------------------------


COLLECTION = "all_masks_flexible_size_and_spacing_4000"


@pytest.fixture
def collection(folder: Path, tmp_path: Path) -> Path:
    """A zip and a table in the published form; one mask with a tumour, one that is not there."""
    rows: list[dict[str, Any]] = []
    place = tmp_path / "datasets"
    place.mkdir()
    with zipfile.ZipFile(place / f"{COLLECTION}.zip", "w") as archive:
        for name in ("chest", "abdomen", "head"):
            mask = read_labels(folder / f"{name}.nii.gz").labels
            file = f"./source/{name}/mask.{name}.nii.gz"
            plain = nib.Nifti1Image(mask.array, mask.geometry.affine)  # no names, as published
            nib.save(plain, tmp_path / "plain.nii.gz")
            archive.write(tmp_path / "plain.nii.gz", f"{COLLECTION}/{file[2:]}")
            row = {"pseudo_label_filename": file, "dim": list(mask.array.shape)}
            row |= {"spacing": list(mask.geometry.spacing_mm), "label_list": list(mask.ids())}
            rows.append(row)
        rows[1]["label_list"].append(26)
        rows.append({**rows[2], "pseudo_label_filename": "./source/gone.nii.gz"})
    rows[0] |= {"top_region_index": [0, 1, 0, 0], "bottom_region_index": [0, 0, 1, 0]}
    table = place / "candidate_masks_flexible_size_and_spacing_4000.json"
    table.write_text(json.dumps(rows), encoding="utf-8")
    return place


def test_published_masks_by_their_table(collection: Path) -> None:
    archive = collection / f"{COLLECTION}.zip"
    for place in (collection, archive, next(collection.glob("*.json"))):
        assert [one.name for one in choose(place)] == ["mask.chest.nii.gz", "mask.head.nii.gz"]
    (head,) = choose(archive, anatomy_ids(["brain"]), ("head",), (8.0, 8.0, 8.0))
    assert head.name == "mask.head.nii.gz" and head.scheme == "maisi"
    (chest,) = choose(archive, (), ("abdomen",))
    assert chest.regions == ("chest", "abdomen"), "from the first to the last region of the row"
    (tumour,) = choose(archive, anatomy_ids(["hepatic tumor"]))
    assert tumour.name == "mask.abdomen.nii.gz"
    with pytest.raises(InputError, match="as wished"):
        choose(archive, anatomy_ids(["lung tumor"]))


def test_published_masks_that_were_unpacked(collection: Path) -> None:
    archive = collection / f"{COLLECTION}.zip"
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(collection)
    archive.unlink()
    for place in (collection, collection / COLLECTION):
        found = choose(place)
        assert [one.name for one in found] == ["mask.chest.nii.gz", "mask.head.nii.gz"]
        assert all(one.path.is_file() and not one.member for one in found)


def test_generate_with_a_mask_of_the_published_zip(
    collection: Path, random_weights: Path, tmp_path: Path
) -> None:
    archive = collection / f"{COLLECTION}.zip"
    words = ["generate", "--mask-dir", str(archive), "--region", "head", "--steps", "1", "-q"]
    words += ["--weights", str(random_weights), "--retries", "0", "-o", str(tmp_path / "out")]
    assert main(words) in (0, 4)
    mask = read_labels(tmp_path / "out" / "mask.head.nii.gz").labels
    assert 22 in mask.ids()
    assert {p.name for p in (tmp_path / "out").rglob("*_ct.nii.gz")} == {
        "mask.head_seed-0_ct.nii.gz"
    }


def test_published_masks_that_were_fetched_are_chosen_where_no_sizes_are_wished_for(
    collection: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHCT_HOME", str(tmp_path / "home"))
    shutil.copytree(collection, tmp_path / "home" / wishes.MASK_MODEL)
    words = {"weights": random_weights, **FAST}
    report = generate_wished(Wish(("brain",)), output=tmp_path / "out", region=("head",), **words)
    assert report.cases[0].names.stem == "mask.head"
    with pytest.raises(UsageError, match="region"):
        generate_wished(
            Wish(("brain",), ("liver=0.5",)), output=tmp_path / "b", region=("head",), **words
        )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda place: (place / f"{COLLECTION}.zip").unlink(), "not there"),
        (lambda place: (place / f"{COLLECTION}.zip").write_bytes(b"PK"), "zip"),
        (lambda place: next(place.glob("*.json")).unlink(), "table"),
        (lambda place: next(place.glob("*.json")).write_text("{", encoding="utf-8"), "JSON"),
        (lambda place: next(place.glob("*.json")).write_text("{}", encoding="utf-8"), "no table"),
        (
            lambda place: next(place.glob("*.json")).write_text("[{}]", encoding="utf-8"),
            "pseudo_label_filename",
        ),
        (
            lambda place: next(place.glob("*.json")).write_text(
                '[{"pseudo_label_filename": "source/head/mask.head.nii.gz"}]', encoding="utf-8"
            ),
            "lacks",
        ),
    ],
)
def test_a_collection_that_is_none(spoil: Any, said: str, collection: Path) -> None:
    archive = collection / f"{COLLECTION}.zip"
    place = archive if said == "table" else next(collection.glob("*.json"))
    spoil(collection)
    with pytest.raises(InputError) as refused:
        choose(place)
    assert said in refused.value.message


def test_a_name_that_leads_out_of_the_collection_is_not_followed(
    collection: Path, folder: Path
) -> None:
    table = next(collection.glob("*.json"))
    rows = json.loads(table.read_text(encoding="utf-8"))
    (collection / f"{COLLECTION}.zip").unlink()
    away = folder / "head.nii.gz"
    for name in (str(away), f"../../{away.name}", "../plain.nii.gz"):
        table.write_text(json.dumps([{**rows[2], "pseudo_label_filename": name}]), encoding="utf-8")
        with pytest.raises(InputError):
            choose(table)
