"""A file has its final name only when it is whole."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from synthct.atomic import replacing, write_text
from synthct.errors import OutputError, UsageError


def test_the_name_appears_only_at_the_end(tmp_path):
    target = tmp_path / "deep" / "seg.nii.gz"
    with replacing(target) as temporary:
        temporary.write_bytes(b"whole")
        assert not target.exists()
        assert temporary.name.endswith(".nii.gz")
    assert target.read_bytes() == b"whole"
    assert os.listdir(target.parent) == ["seg.nii.gz"]


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="half"), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise RuntimeError("half way")
    assert os.listdir(tmp_path) == []


def test_a_failure_leaves_the_old_file_as_it_was(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old", encoding="utf-8")
    with (
        pytest.raises(RuntimeError),
        replacing(target, overwrite=True) as temporary,
    ):
        temporary.write_text("new", encoding="utf-8")
        raise RuntimeError
    assert target.read_text(encoding="utf-8") == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_nothing_is_overwritten_unasked(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(UsageError, match="exists already") as caught:
        write_text(target, "new")
    assert "--overwrite" in caught.value.hint
    assert target.read_text(encoding="utf-8") == "old"
    write_text(target, "new", overwrite=True)
    assert target.read_text(encoding="utf-8") == "new"


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path):
    target = tmp_path / "a.txt"
    with pytest.raises(UsageError), replacing(target) as temporary:
        temporary.write_text("ours", encoding="utf-8")
        target.write_text("theirs", encoding="utf-8")
    assert target.read_text(encoding="utf-8") == "theirs"


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission denied"), (errno.EIO, "cannot")],
)
def test_the_system_s_refusals_become_one_line(tmp_path, number, words):
    with pytest.raises(OutputError, match=words) as caught, replacing(tmp_path / "a.txt"):
        raise OSError(number, os.strerror(number))
    assert caught.value.exit_code == 3
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_a_file_cannot_be_written_into(tmp_path):
    (tmp_path / "taken").write_text("", encoding="utf-8")
    with pytest.raises(OutputError):
        write_text(tmp_path / "taken" / "a.txt", "x")


def test_a_killed_process_leaves_nothing_under_the_final_name(tmp_path):
    target = tmp_path / "a.nii.gz"
    script = (
        "import os, signal, sys\n"
        "from synthct.atomic import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parents[1]
    ran = subprocess.run(
        [sys.executable, "-c", script, str(target)], cwd=root, timeout=60, check=False
    )
    assert ran.returncode == -signal.SIGKILL
    assert not target.exists()
    assert all(name.startswith(".partial-") for name in os.listdir(tmp_path))


def test_a_link_to_nothing_is_not_overwritten_either(tmp_path):
    link = tmp_path / "a.txt"
    link.symlink_to(tmp_path / "absent")
    with pytest.raises(UsageError, match="exists already"):
        write_text(link, "new")
    assert link.is_symlink()


def test_a_file_where_a_folder_is_needed_is_named(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for path in (tmp_path / "file" / "a.txt", tmp_path / "file" / "deep" / "a.txt"):
        with pytest.raises(OutputError, match=r"is a file, not a folder") as caught:
            write_text(path, "new")
        assert str(tmp_path / "file") in caught.value.message
