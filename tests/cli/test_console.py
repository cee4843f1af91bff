"""The edge of the command line: every exception has a code, three lines at most, one document."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import typer

from synthct import errors
from synthct.cli import console
from synthct.cli.console import edge, emit, report, to_json


def _run(raises: BaseException, **flags: bool) -> int:
    @edge
    def command(as_json: bool = False, verbose: bool = False) -> None:
        raise raises

    with pytest.raises(typer.Exit) as left:
        command(**flags)
    return left.value.exit_code


CODES = [
    (errors.UsageError("m", "h"), 2),
    (errors.MaskError("m", "h"), 3),
    (errors.GridError("m"), 3),
    (errors.OutputError("m"), 3),
    (errors.QualityError("m"), 4),
    (errors.MemoryBudgetError("m"), 5),
    (errors.DamagedWeights("m"), 6),
    (errors.BatchError("m"), 7),
    (KeyboardInterrupt(), 130),
    (MemoryError(), 5),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: 8 bytes"), 5),
    (OSError(errno.ENOSPC, "No space left on device", "x"), 3),
    (PermissionError(errno.EACCES, "Permission denied", "x"), 3),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), 3),
    (OSError(errno.EIO, "Input/output error", "x"), 1),
    (ZeroDivisionError("division by zero"), 1),
]


@pytest.mark.parametrize(("error", "code"), CODES, ids=lambda value: repr(value)[:40])
def test_every_error_has_its_code_and_at_most_three_lines(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(error) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert 1 <= len(said.err.splitlines()) <= 3
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err


@pytest.mark.parametrize(("error", "code"), CODES, ids=lambda value: repr(value)[:40])
def test_json_failure_is_one_document(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(error, as_json=True) == code
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"error"}
    assert set(document["error"]) == {"code", "kind", "message", "hint"}
    assert document["error"]["code"] == code


def test_a_bug_asks_for_a_report_and_shows_its_traceback_with_v(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(ValueError("boom\nsecond line")) == 1
    said = capsys.readouterr().err
    assert "report" in said and "ValueError: boom second line" in said
    assert _run(ValueError("boom"), verbose=True) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_message_of_many_lines_is_folded(capsys: pytest.CaptureFixture[str]) -> None:
    report(errors.MaskError("one\ntwo\nthree\nfour", "five\nsix"))
    assert capsys.readouterr().err == "error: one two three four\nhint: five six\n"


def test_the_returned_code_is_the_exit_code() -> None:
    @edge
    def command() -> int:
        return 4

    with pytest.raises(typer.Exit) as left:
        command()
    assert left.value.exit_code == 4


def test_json_is_strict_whatever_the_numbers() -> None:
    result = {
        "nan": float("nan"),
        "inf": np.float32("inf"),
        "count": np.int64(3),
        "array": np.arange(2),
        "path": Path("a/b"),
        3: (True, None),
    }
    parsed = json.loads(to_json(result), parse_constant=pytest.fail)
    assert parsed == {
        "nan": None,
        "inf": None,
        "count": 3,
        "array": [0, 1],
        "path": str(Path("a/b")),
        "3": [True, None],
    }


def test_quiet_drops_the_text_but_not_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"a": 1}, False, lambda _: "text", quiet=True)
    assert capsys.readouterr().out == ""
    emit({"a": 1}, True, lambda _: "text", quiet=True)
    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_translate_knows_a_device_out_of_memory_by_name() -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    assert console.translate(OutOfMemoryError("CUDA")).exit_code == 5
