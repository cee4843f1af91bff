"""The command `synthct` as a user meets it: usage errors, streams, version."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import synthct
from synthct.cli.arguments import spread_lists
from synthct.cli.main import main


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--bogus"],
        ["nonsense"],
        ["mask"],
        ["mask", "info"],
        ["mask", "info", "a.nii.gz", "--unknown", "perhaps"],
        ["check", "--spacing", "1", "1"],
        ["check", "--spacing", "1", "1", "thick"],
        ["check", "--max-memory", "lots", "--mask", "a.nii.gz"],
        ["check", "--mask", "a.nii.gz", "--spacing", "0", "1", "1"],
        ["check", "--mask", "a.nii.gz", "--device", "abacus"],
        ["check", "--mask", "a.nii.gz", "--model", "nobody"],
        ["check"],
        ["mask", "phantom", "-o", "x.nii.gz", "--region", "chest", "abdomen"],
    ],
    ids=" ".join,
)
def test_usage_errors_are_exit_2_in_three_lines(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert 1 <= len(said.err.splitlines()) <= 3

    assert main([*argv, "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["code"] == 2
    assert document["error"]["message"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"synthct {synthct.__version__}\n"


def test_missing_mask_is_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mask", "info", "nowhere.nii.gz"]) == 3
    assert "nowhere.nii.gz" in capsys.readouterr().err


def test_module_and_command_agree_and_keep_the_exit_code() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "synthct", "mask", "info", "nowhere.nii.gz", "--json"],
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    assert run.returncode == 3
    assert json.loads(run.stdout)["error"]["code"] == 3
    assert "Traceback" not in run.stderr


def test_no_escape_codes_without_a_terminal_or_with_no_color() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "synthct", "--bogus"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color"},
        encoding="utf-8",
    )
    assert run.returncode == 2
    assert "\x1b" not in run.stdout + run.stderr


@pytest.mark.skipif(os.name == "nt", reason="pipes close differently there")
def test_a_closed_pipe_is_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "synthct", "check", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.close()
        assert b"Traceback" not in run.stderr.read()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["--region", "chest"], ["--region", "chest"]),
        (
            ["--region", "chest", "abdomen", "--size", "8", "8", "8"],
            ["--region", "chest", "--region", "abdomen", "--size", "8", "8", "8"],
        ),
        (["--region", "head", "folder", "chest"], ["--region", "head", "folder", "chest"]),
        (
            ["--region", "chest", "--region", "pelvis"],
            ["--region", "chest", "--region", "pelvis"],
        ),
        (["--region", "chest", "--", "abdomen"], ["--region", "chest", "--", "abdomen"]),
        (["-o", "chest", "abdomen"], ["-o", "chest", "abdomen"]),
    ],
)
def test_a_list_option_takes_its_own_words_only(written: list[str], read: list[str]) -> None:
    assert spread_lists(["generate", *written]) == ["generate", *read]


def test_only_commands_with_lists_spread_them() -> None:
    words = ["mask", "phantom", "--region", "chest", "abdomen"]
    assert spread_lists(words) == words


@pytest.mark.skipif(os.name == "nt", reason="signals differ there")
def test_an_interrupt_is_130_in_one_message() -> None:
    program = (
        "import os, signal, sys\n"
        "from synthct.cli import main\n"
        "from synthct.workflows import mask\n"
        # a shell that started us in the background may have told us to ignore it
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "mask.info = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(main.main(['mask', 'info', 'seg.nii.gz', '--json']))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    assert run.returncode == 130
    assert json.loads(run.stdout)["error"]["code"] == 130
    assert "Traceback" not in run.stderr
