"""Command lines as people write them, put as Typer reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

LISTS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "--region": frozenset(
            {"head", "chest", "abdomen", "pelvis", "brain", "breast", "prostate"}
        ),
        "--anatomy": frozenset(),
        "--organ-size": frozenset(),
    }
)
"""Options that take several words in a row, and the words that belong to each; none: any."""

COMMANDS = frozenset({"generate", "check"})
"""Commands that have them; `mask phantom --region` takes one word."""


def spread_lists(args: Sequence[str], lists: Mapping[str, frozenset[str]] = LISTS) -> list[str]:
    """Repeat a list option before each of its words: Typer takes one value per option.

    >>> spread_lists(["generate", "--region", "chest", "abdomen", "-o", "out"])
    ['generate', '--region', 'chest', '--region', 'abdomen', '-o', 'out']
    """
    if not COMMANDS.intersection(args[:1]):
        return list(args)
    result: list[str] = []
    option = ""
    for position, arg in enumerate(args):
        follows_option = position > 0 and args[position - 1] == option
        if arg == "--":
            return [*result, *args[position:]]
        if arg in lists:
            option = arg
        elif option and not follows_option:
            if arg in lists[option] or not (lists[option] or arg.startswith("-")):
                result.append(option)
            else:
                option = ""
        result.append(arg)
    return result
