"""What is said about the commands is what they are: reference, README, start time, no torch."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from synthct.cli.arguments import spread_lists
from synthct.cli.main import app
from tests.contracts.command_reference import commands, help_of, reference

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LIGHT = [
    ["--help"],
    ["--version"],
    ["check", "--help"],
    ["qc", "--help"],
    ["mask", "info", "--help"],
    ["generate", "--help"],
    ["weights", "list"],
    ["inspect", "--help"],
]


def test_command_reference_is_up_to_date() -> None:
    written = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == reference(), "docs/commands.md differs from --help: run `make docs`"


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=lambda value: str(value)[:40])
def test_help_shows_an_example_first(path: tuple[str, ...], command: Any) -> None:
    page = help_of(path, command)
    before_options = page.split("Options:")[0]
    assert re.search(r"Examples?:\s+synthct ", before_options), page


def _commands_in(document: Path) -> list[list[str]]:
    """The `synthct …` lines of the code blocks of a page, continuation lines joined."""
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", document.read_text("utf-8"), re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    stripped = [line.strip().removeprefix("$ ") for line in lines]
    return [shlex.split(line, comments=True) for line in stripped if line.startswith("synthct ")]


_SHOWN = [(doc.name, words) for doc in DOCUMENTS for words in _commands_in(doc)]


@pytest.mark.parametrize(("page", "words"), _SHOWN, ids=lambda v: v if isinstance(v, str) else "")
def test_commands_in_the_documents_parse(page: str, words: list[str]) -> None:
    """Every option that a document shows exists, and takes such a value."""
    context = typer.main.get_command(app).make_context("synthct", spread_lists(words[1:]))
    command, rest = context.command, [*context._protected_args, *context.args]
    while getattr(command, "commands", None):
        _, command, rest = command.resolve_command(context, rest)
        context = command.make_context(command.name, list(rest), parent=context)
        rest = [*context._protected_args, *context.args]


def test_readme_shows_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in readme and "make test" in readme


def _succeeds(program: str) -> None:
    """In a process of its own."""
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, check=False, cwd=ROOT, encoding="utf-8")
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("words", LIGHT, ids=" ".join)
def test_light_commands_import_no_torch(words: list[str]) -> None:
    program = (
        "import sys\n"
        "from synthct.cli.main import main\n"
        f"code = main({words!r})\n"
        "heavy = {'torch', 'monai', 'SimpleITK', 'nibabel', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)\n"
    )
    _succeeds(program)


def test_help_starts_in_under_a_second() -> None:
    """Seconds of the processor: those on the clock are also of whatever else the machine does."""

    def seconds() -> float:
        before = os.times()
        subprocess.run(
            [sys.executable, "-m", "synthct", "--help"], check=True, capture_output=True, cwd=ROOT
        )
        after = os.times()
        return (after.children_user + after.children_system) - (
            before.children_user + before.children_system
        )

    assert min(seconds() for _ in range(3)) < 1.0


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = (
        "import sys, synthct\n"
        "assert set(synthct.__all__) <= set(dir(synthct))\n"
        "sys.exit(' '.join({'torch', 'numpy', 'typer', 'pydantic'} & set(sys.modules)) or 0)\n"
    )
    _succeeds(program)


def test_every_public_name_exists() -> None:
    import synthct

    for name in synthct.__all__:
        assert getattr(synthct, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = synthct.nonsense
