"""Every error that synthct raises, drawn as a tree. Each knows its exit code.

SynthctError
├── UsageError 2            an option, a device, an output that exists
├── InputError 3            something that came in, or cannot be written
│   ├── MaskError           the mask is no mask, or nobody knows its ids
│   ├── GridError           spacing, field of view or region outside what is possible
│   └── OutputError         permission, disk full
├── QualityError 4          QC failed, or nothing could be checked
├── MemoryBudgetError 5     does not fit in the memory given
│   └── RanOutOfMemory      it looked as if it fitted, and the machine had less
├── WeightsError 6          missing, damaged, unsafe, offline, licence
│   ├── MissingWeights
│   ├── DamagedWeights
│   ├── UnsafeWeights
│   ├── LicenceNotAccepted
│   └── OfflineError
├── BatchError 7            some cases failed, the others are whole
└── TrainingError 1         a run that cannot go on (NaN, empty fold)
"""

from __future__ import annotations


class SynthctError(Exception):
    """Base of all errors: what was received, and what to do about it.

    Args:
        message: one line: what was received and what is accepted.
        hint: one line: what to do. May be empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def kind(self) -> str:
        return type(self).__name__

    def as_dict(self) -> dict[str, object]:
        return {
            "code": self.exit_code,
            "kind": self.kind,
            "message": self.message,
            "hint": self.hint,
        }


class UsageError(SynthctError):
    exit_code = 2


class InputError(SynthctError):
    exit_code = 3


class MaskError(InputError):
    pass


class GridError(InputError):
    pass


class OutputError(InputError):
    pass


class QualityError(SynthctError):
    exit_code = 4


class MemoryBudgetError(SynthctError):
    """Does not fit in the memory given.

    Args:
        minimum: bytes of the smallest budget that works, where known.
    """

    exit_code = 5

    def __init__(self, message: str, hint: str = "", minimum: int | None = None) -> None:
        super().__init__(message, hint)
        self.minimum = minimum

    def as_dict(self) -> dict[str, object]:
        known = {} if self.minimum is None else {"minimum": self.minimum}
        return {**super().as_dict(), **known}


class RanOutOfMemory(MemoryBudgetError):
    """The machine had less than was planned with, in the `part` of the work that was under way.

    A smaller plan for that part may still end well.
    """

    def __init__(self, part: str, minimum: int | None = None) -> None:
        super().__init__(
            f"the machine ran out of memory ({part}), with the smallest plan",
            "close other programs, or ask for fewer voxels (--spacing, --size)",
            minimum,
        )
        self.part = part


class WeightsError(SynthctError):
    exit_code = 6


class MissingWeights(WeightsError):
    pass


class DamagedWeights(WeightsError):
    pass


class UnsafeWeights(WeightsError):
    pass


class LicenceNotAccepted(WeightsError):
    pass


class OfflineError(WeightsError):
    pass


class BatchError(SynthctError):
    exit_code = 7


class TrainingError(SynthctError):
    exit_code = 1
