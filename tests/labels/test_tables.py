"""Label tables of users and of nnU-Net: read as meant, or refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthct.errors import MaskError
from synthct.labels import tables
from synthct.labels.remap import remap
from synthct.labels.scheme import Scheme, load_scheme, maisi_id


def write(folder: Path, name: str, content: object) -> str:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(
            content if isinstance(content, str) else json.dumps(content), encoding="utf-8"
        )
    return str(path)


def load(folder: Path, name: str, content: object) -> Scheme:
    return load_scheme(write(folder, name, content))


def test_toml_of_a_user(tmp_path: Path) -> None:
    text = """
name = "ours"
title = "Our liver set"
[labels]
0 = "background"
1 = "Leber"
2 = "kidney left"
3 = "drain"
[maisi]
1 = "liver"
"""
    scheme = load(tmp_path, "ours.toml", text)
    assert (scheme.name, scheme.title) == ("ours", "Our liver set")
    assert dict(scheme.labels) == {1: "Leber", 2: "kidney left", 3: "drain"}
    assert dict(scheme.maisi) == {1: 1, 2: 14, 3: 0}


@pytest.mark.parametrize("free", [2, 16, 18, 20, 21, 129, 130, 131])
def test_a_new_structure_takes_a_number_that_the_scheme_keeps_free(
    tmp_path: Path, free: int
) -> None:
    scheme = load(tmp_path, "own.toml", f"[labels]\nliver = 1\nstent = 2\n[maisi]\n2 = {free}\n")
    labels, _ = remap(np.array([[[0, 1, 2]]], np.uint8), scheme)
    assert labels.ravel().tolist() == [0, 1, free]
    assert scheme.maisi == {1: 1, 2: free}


def test_json_of_a_user_with_ids_and_names(tmp_path: Path) -> None:
    content = {"labels": {"1": "liver", "7": "spleen", "9": "x"}, "maisi": {"7": 0, "9": 200}}
    scheme = load(tmp_path, "mine.json", content)
    assert scheme.name == "mine"
    assert dict(scheme.maisi) == {1: 1, 7: 0, 9: 200}


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "liver": 1, "right kidney": 2},
        {"0": "background", "1": "liver", "2": "right kidney"},
        {"background": "0", "liver": "1", "right kidney": "2"},
    ],
)
def test_dataset_json_of_nnunet_old_and_new(tmp_path: Path, labels: dict[str, object]) -> None:
    content = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": 20,
        "file_ending": ".nii.gz",
    }
    scheme = load(tmp_path, "dataset.json", content)
    assert dict(scheme.labels) == {1: "liver", 2: "right kidney"}
    assert dict(scheme.maisi) == {1: 1, 2: 5}


def test_regions_of_nnunet_are_refused_by_name(tmp_path: Path) -> None:
    content = {"labels": {"background": 0, "kidneys": [1, 2], "liver": 3}}
    with pytest.raises(MaskError, match="'kidneys' is a region"):
        load(tmp_path, "dataset.json", content)


HOSTILE: dict[str, object] = {
    "no_object.json": [1, 2],
    "no_labels.json": {"name": "x"},
    "labels_list.json": {"labels": ["liver"]},
    "empty.json": "",
    "no_label.json": {"labels": {}},
    "only_background.json": {"labels": {"background": 0}},
    "broken.json": '{"labels": {"1": "liver"',
    "twice.json": '{"labels": {"1": "liver", "1": "spleen"}}',
    "same_id.json": {"labels": {"liver": 1, "spleen": 1}},
    "same_number.json": {"labels": {"1": "liver", "01": "spleen"}},
    "negative.json": {"labels": {"-1": "liver"}},
    "negative_id.json": {"labels": {"liver": -1}},
    "too_large.json": {"labels": {"liver": 70000}},
    "astronomic.json": '{"labels": {"liver": 1' + "0" * 5000 + "}}",
    "long_key.json": {"labels": {"9" * 5000: "liver"}},
    "fraction.json": {"labels": {"liver": 1.5}},
    "bool.json": {"labels": {"liver": True}},
    "null.json": {"labels": {"liver": None}},
    "nan.json": '{"labels": {"liver": NaN}}',
    "zero_is_liver.json": {"labels": {"liver": 0, "spleen": 1}},
    "one_is_background.json": {"labels": {"background": 1, "liver": 2}},
    "empty_name.json": {"labels": {"1": "liver", "2": " "}},
    "newline.json": {"labels": {"1": "liver\nspleen"}},
    "escape.json": {"labels": {"1": "\x1b[31mliver"}},
    "long_name.json": {"labels": {"1": "liver " * 100}},
    "name_no_text.json": {"name": 5, "labels": {"1": "liver"}},
    "maisi_no_table.json": {"labels": {"1": "liver"}, "maisi": [1]},
    "maisi_stranger.json": {"labels": {"1": "liver"}, "maisi": {"2": 3}},
    "maisi_133.json": {"labels": {"1": "liver"}, "maisi": {"1": 133}},
    "maisi_bool.json": {"labels": {"1": "liver"}, "maisi": {"1": True}},
    "maisi_fraction.json": {"labels": {"1": "liver"}, "maisi": {"1": 1.0}},
    "maisi_unknown.json": {"labels": {"1": "liver"}, "maisi": {"1": "lever"}},
    "maisi_list.json": {"labels": {"1": "liver"}, "maisi": {"1": [1]}},
    "builtin.json": {"name": "maisi", "labels": {"5": "liver"}},
    "unknown_only.json": {"labels": {"1": "drain", "2": "wire"}},
    "deep.json": '{"labels": ' * 100_000,
    "huge.json": b" " * (tables.MAX_BYTES + 1),
    "binary.json": bytes(range(256)),
    "broken.toml": "labels = {",
    "twice.toml": '[labels]\n1 = "liver"\n1 = "spleen"\n',
    "date.toml": "[labels]\n1 = 2020-01-01\n",
    "binary.toml": b"\xff\xfe\x00",
    "nested.toml": '[labels.left]\n1 = "liver"\n',
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_table_that_is_none_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(MaskError) as caught:
        load(tmp_path, name, HOSTILE[name])
    error = caught.value
    assert error.exit_code == 3
    assert name in error.message and error.hint
    assert len(error.message.removeprefix(str(tmp_path))) < 400
    assert error.message.isprintable() and error.hint.isprintable()


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match=r"cannot read .*gone\.toml"):
        load_scheme(str(tmp_path / "gone.toml"))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(MaskError, match="cannot read"):
        load_scheme(str(tmp_path / "folder.json"))


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
ids_or_names = st.one_of(st.integers(-2, 300).map(str), st.sampled_from(["liver", "0", "bg"]))


@given(
    labels=json_like | st.dictionaries(ids_or_names, json_like),
    maisi=json_like | st.dictionaries(ids_or_names, json_like),
)
def test_any_content_is_read_or_refused_never_a_crash(labels: object, maisi: object) -> None:
    try:
        table = tables.parse({"labels": labels, "maisi": maisi}, where="it", resolve=maisi_id)
    except MaskError:
        return
    assert set(table.maisi) == set(table.labels)
    assert all(1 <= label <= tables.MAX_ID for label in table.labels)
