"""Whether a study is enough for its metrics: too few cases refuse, few warn."""

from __future__ import annotations

from collections.abc import Sequence

from synthct.errors import InputError
from synthct.evaluation.case import Role
from synthct.evaluation.metric import Metric, Study


def lacking(metric: Metric, study: Study) -> str:
    """What the study lacks for the metric, in a sentence with the number needed; empty: nothing."""
    needs = metric.needs
    wished: dict[Role, int] = {
        "real": needs.real,
        "synthetic": needs.synthetic,
        "training": needs.training,
    }
    for role, least in wished.items():
        found = len(study.of(role))
        if found < least:
            return f"{metric.name} needs {least} {role} cases, {found} were given"
    labelled: dict[Role, bool] = {
        "real": needs.real_labels,
        "synthetic": needs.synthetic_labels,
    }
    for role, wanted in labelled.items():
        cases = study.of(role)
        without = [case.name for case in cases if case.labels is None]
        if wanted and without:
            return (
                f"{metric.name} needs labels beside every {role} case; "
                f"{len(without)} of {len(cases)} have none, first {without[0]}"
            )
    return ""


def runnable(
    metrics: Sequence[Metric], study: Study, *, asked: bool
) -> tuple[list[Metric], dict[str, str]]:
    """The metrics that the study is enough for, and why the others are left out.

    Raises:
        InputError: a metric that was `asked` for by name lacks something; or none can run.
    """
    left_out = {metric.name: why for metric in metrics if (why := lacking(metric, study))}
    if left_out and (asked or len(left_out) == len(metrics)):
        first = next(iter(left_out.values()))
        raise InputError(first, f"{_remedy(first)}, or other --metrics")
    return [metric for metric in metrics if metric.name not in left_out], left_out


def _remedy(lack: str) -> str:
    if "needs labels" in lack:
        return "put X_dseg.nii.gz beside X_ct.nii.gz"
    return (
        "name the training cases with --training DIR" if "training" in lack else "give more cases"
    )


def few_cases(metric: Metric, study: Study) -> str:
    """A warning where there are fewer cases than a number that others could rely on."""
    needs = metric.needs
    counts = {"real": len(study.real), "synthetic": len(study.synthetic)}
    few = {
        role: n for role, n in counts.items() if n < needs.warn_below and getattr(needs, role) > 0
    }
    if not few:
        return ""
    known = " and ".join(f"{n} {role}" for role, n in few.items())
    return (
        f"{metric.name}: {known} cases are few (fewer than {needs.warn_below}): "
        "read the interval, not the number"
    )
