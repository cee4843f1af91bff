"""Odd files and odd places: one clear line and its exit code, no traceback, nothing left behind."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthct.cli.main import main

AFFINE = np.diag([8.0, 8.0, 8.0, 1.0])


def _labels() -> np.ndarray:
    """A body (200) with a liver, a spleen and a spinal cord (121: MAISI's alone) in it."""
    array = np.zeros((20, 18, 15), np.int16)
    array[3:17, 2:16] = 200
    array[10:15, 5:10, 4:10] = 1
    array[4:7, 5:10, 4:8] = 3
    array[9:15, 3:5] = 121
    return array


def _save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=1)
    nib.save(image, path)


def _patched(path: Path, at: int, content: bytes) -> None:
    _save(path, _labels())
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[at : at + len(content)] = content
    path.write_bytes(gzip.compress(bytes(raw)))


def _cut(path: Path) -> None:
    _save(path, _labels())
    path.write_bytes(path.read_bytes()[:-40])


def _number(value: float) -> bytes:
    return struct.pack("<f", value)


BAD: dict[str, Callable[[Path], None]] = {
    "two volumes": lambda p: _save(p, np.stack([_labels()] * 2, -1)),
    "a slice": lambda p: _save(p, _labels()[:, :, 0]),
    "fractions": lambda p: _save(p, _labels() + np.float32(0.3)),
    "not numbers": lambda p: _save(p, np.where(_labels() == 1, np.float32(np.nan), 0)),
    "infinite": lambda p: _save(p, np.where(_labels() == 1, np.float32(np.inf), 0)),
    "complex": lambda p: _save(p, _labels().astype(np.complex64)),
    "empty": lambda p: _save(p, _labels() * 0),
    "negative ids": lambda p: _save(p, np.where(_labels() == 1, np.int16(-1), _labels())),
    "huge ids": lambda p: _save(p, _labels().astype(np.int32) * 1000),
    "unknown ids": lambda p: _save(p, np.where(_labels() == 1, np.int16(199), _labels())),
    "affine of NaN": lambda p: _patched(p, 280, _number(float("nan"))),
    "singular affine": lambda p: _patched(p, 280, bytes(16)),
    "far origin": lambda p: _patched(p, 292, _number(1e30)),
    "no sform, no qform": lambda p: _patched(p, 252, bytes(4)),
    "pixdim of zero": lambda p: _patched(p, 80, _number(0)),
    "absurd pixdim": lambda p: _patched(p, 80, _number(8000)),
    "negative dimension": lambda p: _patched(p, 42, struct.pack("<h", -20)),
    "no such type": lambda p: _patched(p, 70, struct.pack("<h", 77)),
    "truncated": _cut,
    "no image": lambda p: (p.write_bytes(b"hello"), None)[1],
    "no content": lambda p: (p.write_bytes(b""), None)[1],
    "a folder": lambda p: p.mkdir(),
    "a link to nothing": lambda p: p.symlink_to(p.with_name("absent")),
    "a link to itself": lambda p: p.symlink_to(p),
    "absent": lambda p: None,
}
COMMANDS = (
    ("mask", "info", "{}"),
    ("mask", "convert", "{}", "-o", "out.nii.gz"),
    ("mask", "body", "{}", "-o", "out.nii.gz"),
    ("check", "--mask", "{}"),
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _refused(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must end with `code` and at most three lines on stderr."""
    assert main(words) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") <= 3
    assert "Traceback" not in said.err
    return said.err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(words[:2]))
@pytest.mark.parametrize("kind", BAD)
def test_a_mask_that_is_none(
    kind: str, command: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = here / "mäsk näme.nii.gz"
    BAD[kind](path)
    _refused([word.format(path.name) for word in command], 3, capsys)
    assert not (here / "out.nii.gz").exists()


GOOD: dict[str, Callable[[Path], None]] = {
    "trailing axes": lambda p: _save(p, _labels()[..., None, None]),
    "almost whole": lambda p: _save(p, _labels() + np.float32(5e-4)),
    "one slice": lambda p: _save(p, _labels()[:, :, 6:7]),
    "one sagittal slice": lambda p: _save(p, _labels()[11:12]),
    "oblique": lambda p: _save(p, _labels(), _turned(0.4)),
    "left to right": lambda p: _save(p, _labels(), np.diag([-8.0, -8.0, 8.0, 1.0])),
    "negative pixdim": lambda p: _patched(p, 80, _number(-8)),
    "qform of NaN": lambda p: _patched(p, 256, _number(float("nan"))),
}


def _turned(angle: float) -> np.ndarray:
    affine = AFFINE.copy()
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:2, :2] = np.array(turn) * 8.0
    return affine


@pytest.mark.parametrize("kind", GOOD)
def test_a_mask_that_is_odd_and_one_all_the_same(
    kind: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = here / "mäsk näme.nii.gz"
    GOOD[kind](path)
    assert main(["mask", "info", path.name]) == 0
    assert main(["mask", "convert", path.name, "-o", "neu/mäsk.nii.gz"]) == 0
    assert main(["mask", "body", path.name, "-o", "body.nii.gz"]) == 0
    assert "Traceback" not in capsys.readouterr().err
    came, went = (nib.load(p) for p in (path, here / "neu" / "mäsk.nii.gz"))
    np.testing.assert_array_equal(
        np.rint(np.squeeze(came.get_fdata())), np.squeeze(went.get_fdata())
    )
    np.testing.assert_allclose(came.affine, went.affine, atol=1e-4)


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("file/out.nii.gz", 3),
        ("file/deep/out.nii.gz", 3),
        ("there.nii.gz", 2),
        ("link.nii.gz", 2),
        ("out.mha", 2),
        ("folder", 2),
        ("x" * 300 + ".nii.gz", 3),
    ],
)
def test_a_place_that_cannot_be_written(
    output: str, code: int, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _save(here / "seg.nii.gz", _labels())
    (here / "file").write_text("text", encoding="utf-8")
    (here / "there.nii.gz").write_text("text", encoding="utf-8")
    (here / "link.nii.gz").symlink_to("absent.nii.gz")
    (here / "folder").mkdir()
    before = sorted(here.rglob("*"))
    _refused(["mask", "convert", "seg.nii.gz", "-o", output], code, capsys)
    assert sorted(here.rglob("*")) == before
    assert (
        (here / "there.nii.gz").read_text(encoding="utf-8")
        == (here / "file").read_text(encoding="utf-8")
        == "text"
    )


def test_a_place_that_takes_no_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("no such file system here")
    _save(here / "seg.nii.gz", _labels())
    words = ["generate", "--mask", "seg.nii.gz", "-o", "/proc/out"]
    text = _refused(words, 3, capsys)
    assert "/proc takes no new files" in text and "free space" not in text


@pytest.mark.parametrize("command", ["generate", "check"])
def test_too_few_numbers_after_an_option(
    command: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [command, "--spacing", "1", "1", "--mask", "seg.nii.gz"]
    text = _refused(words, 2, capsys)
    assert "--spacing takes 3 numbers" in text and "--spacing 1 1 2" in text


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_that_is_read_only(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _save(here / "seg.nii.gz", _labels())
    (here / "locked").mkdir(mode=0o555)
    said = _refused(["mask", "body", "seg.nii.gz", "-o", "locked/b.nii.gz"], 3, capsys)
    assert "permission" in said


QC_BAD = ("two volumes", "complex", "affine of NaN", "truncated", "no image", "a link to nothing")


@pytest.mark.parametrize("kind", QC_BAD)
def test_a_pair_that_cannot_be_judged(
    kind: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _save(here / "x_dseg.nii.gz", _labels())
    BAD[kind](here / "x_ct.nii.gz")
    pair = ["qc", "--image", "x_ct.nii.gz", "--labels-file", "x_dseg.nii.gz"]
    _refused(pair, 3, capsys)
    swapped = ["qc", "--image", "x_dseg.nii.gz", "--labels-file", "x_ct.nii.gz"]
    _refused(swapped, 3, capsys)


def test_one_file_for_two_reports(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _save(here / "x_ct.nii.gz", _labels())
    _save(here / "x_dseg.nii.gz", _labels())
    _refused(["qc", "x_ct.nii.gz", "--csv", "same", "--html", "same"], 2, capsys)
    assert not (here / "same").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b"[]"),
        ("a.json", b"\xff\xfe\x00"),
        ("run.json", b"{}"),
        ("a.nii.gz", b"hello"),
        ("a.txt", b"hello"),
        ("a.png", b""),
    ],
)
def test_inspect_of_what_is_not_ours(
    name: str, content: bytes, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / name).write_bytes(content)
    _refused(["inspect", name], 3, capsys)


@pytest.mark.parametrize("kind", BAD)
def test_inspect_of_odd_volumes(kind: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    BAD[kind](here / "a.nii.gz")
    _refused(["inspect", "a.nii.gz"], 3, capsys)
