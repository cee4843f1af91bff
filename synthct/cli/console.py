"""What every command shares: its streams, its errors, its exit codes.

Results go to stdout, everything else to stderr. An error is at most three lines: what was
received and what is accepted, then what to do. With `--json` it is one document on stdout.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from synthct.errors import InputError, MemoryBudgetError, OutputError, SynthctError, UsageError

DONE = 0
UNEXPECTED = 1
INTERRUPTED = 130

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Silent on success.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more; the full traceback of a bug.")
]

_USAGE_ERROR = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError")
"""The parser's own base class: Typer 0.29 carries a copy of click, earlier ones import it."""

P = ParamSpec("P")
R = TypeVar("R")


def emit(
    result: Mapping[str, Any],
    as_json: bool,
    render: Callable[[Mapping[str, Any]], str | None],
    *,
    quiet: bool = False,
) -> None:
    """Put a result on stdout: as JSON, or as what `render` makes of it.

    `render` returns the text, or prints for itself and returns None. `quiet` drops the text,
    never the JSON that was asked for.
    """
    if as_json:
        sys.stdout.write(to_json(result) + "\n")
    elif not quiet:
        text = render(result)
        if text:
            sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def to_json(result: Mapping[str, Any]) -> str:
    """Strict JSON: NaN and infinity become null, NumPy scalars numbers, paths strings."""
    return json.dumps(_plain(result), indent=2, ensure_ascii=False, allow_nan=False)


def say(line: str, *, quiet: bool = False) -> None:
    """A remark for the user, on stderr."""
    if not quiet:
        print(line, file=sys.stderr, flush=True)


def edge(command: Callable[P, R]) -> Callable[P, R]:
    """Wrap a command: whatever it raises leaves as a message and an exit code.

    A command may return its exit code (an int), or nothing for 0. Its flags are called
    `as_json`, `quiet` and `verbose`.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = command(*args, **kwargs)
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, (typer.Exit, typer.Abort, typer.BadParameter)):
                raise
            code = report(
                error,
                as_json=bool(kwargs.get("as_json", False)),
                verbose=bool(kwargs.get("verbose", False)),
            )
            raise typer.Exit(code) from None
        if isinstance(result, int) and not isinstance(result, bool) and result != DONE:
            raise typer.Exit(result)
        return result

    return wrapped


def report(error: BaseException, *, as_json: bool = False, verbose: bool = False) -> int:
    """Say what went wrong and return the exit code. Never raises for the error itself."""
    if isinstance(error, BrokenPipeError):
        return _reader_left()
    known = translate(error)
    if verbose and known.exit_code == UNEXPECTED:
        traceback.print_exception(error, file=sys.stderr)
    return fail(known, as_json)


def fail(error: SynthctError, as_json: bool = False, *, code: int | None = None) -> int:
    """Print `error` (at most three lines on stderr; one JSON document on stdout)."""
    document = error.as_dict()
    if code is not None:
        document["code"] = code
    lines = [f"error: {_line(error.message)}"]
    if error.hint:
        lines.append(f"hint: {_line(error.hint)}")
    print("\n".join(lines), file=sys.stderr, flush=True)
    if as_json:
        sys.stdout.write(to_json({"error": document}) + "\n")
        sys.stdout.flush()
    return int(str(document["code"]))


class Interrupted(SynthctError):
    """Ctrl-C: nothing that was under way keeps a final name."""

    exit_code = INTERRUPTED


class UnexpectedError(SynthctError):
    """A bug of ours."""

    exit_code = UNEXPECTED


def translate(error: BaseException) -> SynthctError:
    """Any exception as one of ours, so that it has a code, a message and a hint."""
    if isinstance(error, SynthctError):
        return error
    if isinstance(error, _USAGE_ERROR):
        return _from_parser(error)
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return Interrupted("interrupted; files that were not complete were not kept")
    if isinstance(error, MemoryError) or _is_device_memory(error):
        return MemoryBudgetError(
            "out of memory", "ask for a coarser --spacing, or give more with --max-memory"
        )
    if isinstance(error, OSError):
        return _from_os(error)
    return UnexpectedError(
        f"unexpected {type(error).__name__}: {_line(str(error)) or 'no message'}",
        "this is a bug of synthct: please report it with the output of the same command and -v",
    )


def _from_os(error: OSError) -> SynthctError:
    where = f" {error.filename}" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return OutputError(f"cannot write{where}: the disk is full", "free space, or another -o")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"permission denied:{where}", "choose a folder that you own")
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG):
        return InputError(f"{error.strerror}:{where}", "check the path")
    return UnexpectedError(
        f"unexpected {type(error).__name__}: {_line(str(error))}",
        "if the file and the disk are well, please report it with the output of -v",
    )


def _is_device_memory(error: BaseException) -> bool:
    """torch's OutOfMemoryError (a RuntimeError), told by name: torch is not imported here."""
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "not enough memory" in str(error)


def _reader_left() -> int:
    """`synthct … | head` closed its end: nothing more to say, and nobody to say it to."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    return UNEXPECTED


def _from_parser(error: BaseException) -> UsageError:
    """An error of Typer's parser: a bad option, a missing value."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "synthct"
    if type(error).__name__ == "NoArgsIsHelpError":
        return UsageError("a command is missing", f"see `{command} --help`")
    if getattr(error, "param", None) is not None and _count(error) > 1:
        option, many = error.param.opts[0], _count(error)  # type: ignore[attr-defined]
        return UsageError(
            f"{option} takes {many} numbers, and one of the {many} words after it is none",
            f"e.g. {option} {' '.join(['1', '1', '2'][:many])}; see `{command} --help`",
        )
    text = _line(getattr(error, "format_message", lambda: str(error))())
    text = text.replace("Value error, ", "")  # pydantic's, where Typer checks choices with it
    return UsageError(text[:1].lower() + text[1:], f"see `{command} --help`")


def _count(error: BaseException) -> int:
    """Words that the option at fault takes."""
    return int(getattr(getattr(error, "param", None), "nargs", 1))


def _line(text: str) -> str:
    return " ".join(text.split())


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return _plain(value.tolist())
    return str(value)
