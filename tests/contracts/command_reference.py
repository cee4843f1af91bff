"""`docs/commands.md` from `--help`: `make docs` writes it, a test holds it to the code."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import typer

from synthct.cli.main import app

WIDTH = 96
_HEAD = """\
# Commands

What `--help` says, collected by `make docs`. Exit codes and streams are in
[quickstart.md](quickstart.md#exit-codes).
"""


def commands(command: Any = None, path: tuple[str, ...] = ("synthct",)) -> Iterator[Any]:
    """(words, command) for every command and group, depth first, in the order of `--help`."""
    command = typer.main.get_command(app) if command is None else command
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


def help_of(path: tuple[str, ...], command: Any) -> str:
    """The help page of a command, as a terminal of `WIDTH` columns shows it."""
    context = command.context_class(
        command, info_name=" ".join(path), terminal_width=WIDTH, max_content_width=WIDTH
    )
    context.help_option_names = ["-h", "--help"]
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def reference() -> str:
    """The whole document."""
    parts = [_HEAD]
    for path, command in commands():
        level = "#" * min(len(path) + 1, 4)
        page = textwrap.dedent(help_of(path, command))
        parts.append(f"{level} {' '.join(path)}\n\n```text\n{page}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(reference(), end="")
