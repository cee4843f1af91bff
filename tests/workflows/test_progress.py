"""Progress is heard where somebody listens, and costs nothing where nobody does."""

from __future__ import annotations

import pytest

from synthct.workflows.progress import (
    LineProgress,
    Progress,
    RichProgress,
    SilentProgress,
    progress_on_stderr,
)


def _work(progress: Progress) -> None:
    with progress.stage("sampling step", 3) as advance:
        advance()
        advance(2)
    progress.say("done with it")


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    _work(SilentProgress())
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_lines_only_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_on_stderr() as progress:
        assert isinstance(progress, LineProgress)
        _work(progress)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "done with it\n")


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_on_stderr(quiet=True) as progress:
        _work(progress)
    assert capsys.readouterr().err == ""


def test_bars_keep_off_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with RichProgress() as progress:
        _work(progress)
    said = capsys.readouterr()
    assert said.out == ""
    assert "done with it" in said.err


def test_a_stage_that_fails_is_closed() -> None:
    with RichProgress() as progress:
        with pytest.raises(ValueError, match="inside"), progress.stage("decoding slab", 2):
            raise ValueError("inside")
        assert not progress._bars.tasks
