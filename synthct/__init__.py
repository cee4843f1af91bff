"""Synthetic CT from a segmentation mask: the Python side of the command `synthct`.

Each command is one plain function with the same words: `synthct.generate(...)`,
`synthct.check(...)`, `synthct.qc(...)`, `synthct.mask.convert(...)`. Nothing is imported before
it is used, so `import synthct` costs no more than this file.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_FUNCTIONS = {
    "generate": "synthct.workflows.generate",
    "check": "synthct.workflows.check",
    "qc": "synthct.workflows.qc",
    "inspect": "synthct.workflows.inspect",
}
_MODULES = {"mask": "synthct.workflows.mask"}

__all__ = ["__version__", "check", "generate", "inspect", "mask", "qc"]


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(import_module(_FUNCTIONS[name]), name)
    if name in _MODULES:
        return import_module(_MODULES[name])
    raise AttributeError(f"module 'synthct' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
