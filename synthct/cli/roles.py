"""Options of `evaluate` that differ between the real and the synthetic folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from synthct.evaluation.case import Role

RealLabelsOption = Annotated[
    str | None,
    typer.Option(
        "--real-labels", metavar="SCHEME", help="Scheme of the real masks; default: --labels."
    ),
]
SynthLabelsOption = Annotated[
    str | None,
    typer.Option(
        "--synth-labels",
        metavar="SCHEME",
        help="Scheme of the synthetic masks; default: --labels.",
    ),
]


def by_role(labels: str, real: str | None, synthetic: str | None) -> dict[Role, str]:
    """The scheme of each role's masks."""
    return {"real": real or labels, "synthetic": synthetic or labels}
