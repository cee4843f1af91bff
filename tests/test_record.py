"""Records: hashes that repeat, versions without imports."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from synthct.errors import InputError
from synthct.record import fingerprint, platform_summary, sha256_of, versions


def test_sha256_of_a_file_is_the_standard_one(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_sha256_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "liver.nii").write_bytes(b"1")
    assert sha256_of(tmp_path / "one") == sha256_of(tmp_path / "two")
    (tmp_path / "two" / "liver.nii").rename(tmp_path / "two" / "spleen.nii")
    (tmp_path / "three" / "liver.nii").write_bytes(b"2")
    assert len({sha256_of(tmp_path / n) for n in ("one", "two", "three")}) == 3


def test_what_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent"):
        sha256_of(tmp_path / "absent")


def test_a_fingerprint_ignores_order_and_sees_values() -> None:
    assert fingerprint({"a": 1, "b": [1.5, None]}) == fingerprint({"b": [1.5, None], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_the_platform_names_no_host() -> None:
    import platform

    assert platform.node() not in platform_summary().values()


def test_versions_import_nothing_heavy() -> None:
    code = (
        "import sys; from synthct.record import versions; v = versions(); "
        "print('torch' in sys.modules, 'numpy' in v, 'python' in v)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert done.stdout.split() == ["False", "True", "True"]
    assert versions()["synthct"]
