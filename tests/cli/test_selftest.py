"""The exit code and the document of `synthct selftest decode`."""

from __future__ import annotations

import json

import pytest

from synthct.cli.main import main
from synthct.workflows import selftest

WORDS = ["selftest", "decode", "--device", "cpu", "--json"]


@pytest.mark.parametrize(("more", "code"), [([], 0), (["--halo", "0"], 1)])
def test_exit_code_and_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: list[str], code: int
) -> None:
    monkeypatch.setattr(selftest, "TASKS", selftest.TASKS[2:4])
    assert main([*WORDS, *more]) == code
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is (code == 0)
    for case in found["cases"]:
        assert {"shape", "slabs", "axis", "dtype", "error", "passed"} <= case.keys()
