"""`synthct inspect`: where did this volume come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from synthct.cli.console import JsonOption, QuietOption, VerboseOption, edge, emit


def register(app: typer.Typer) -> None:
    app.command(
        "inspect",
        help="Where a volume came from: its record, from its header and its sidecar.\n\n"
        "Example: synthct inspect out/seg_seed-0_ct.nii.gz",
    )(inspect_command)


@edge
def inspect_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A volume, label map or sidecar of synthct.")
    ],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    from synthct.workflows.inspect import inspect

    emit(inspect(file), as_json, _render, quiet=quiet)


def _render(result: Mapping[str, Any]) -> str:
    record = result["record"]
    if result["kind"] == "run":
        lines = _run_lines(record)
    elif record is not None:
        lines = _case_lines(record)
    else:
        lines = _header_lines(result["header"])
    state = {"unchanged": " (unchanged since it was written)", "changed": " (CHANGED)"}
    first = f"SYNTHETIC: {result['path']}{state.get(result['state'], '')}"
    return "\n".join([first, *lines, *(f"note: {note}" for note in result["notes"])])


def _case_lines(record: Mapping[str, Any]) -> list[str]:
    model, sampling, grid = record["model"], record["sampling"], record["grid"]
    hashes = ", ".join(f"{role} {value[:12]}" for role, value in model["weights_sha256"].items())
    rows = {
        "made by": f"synthct {record['tool_version']}, {record['created']}",
        "model": f"{model['name']} ({model['source']}, licence {model['licence']})",
        "weights": hashes,
        "sampling": f"seed {sampling['seed']}, try {sampling['attempt']}, "
        f"{sampling['steps']} steps of {sampling['sampler']}, guidance {_guidance(sampling)}, "
        f"{sampling['device']}, {sampling['precision']}",
        "mask": _mask_text(record["mask"]),
        "labels": f"ids of {record['label_out']['scheme']}",
        "grid": f"{_times(grid['shape'])} voxels of {_times(grid['spacing_mm'])} mm, "
        f"{grid['orientation']}",
        "inner grid": f"{_times(grid['inner_shape'])} voxels of "
        f"{_times(grid['inner_spacing_mm'])} mm" + (", resampled" if grid["resampled"] else ""),
        "QC": _qc_text(record["qc"]),
        "values": record["hu_statement"],
    }
    return [*_rows(rows), *(f"note: {note}" for note in record["notes"])]


def _guidance(sampling: Mapping[str, Any]) -> str:
    """Each scale that strengthened something; older records have the largest alone."""
    kinds = ("mask", "modality", "tumor")
    found = {kind: sampling["conditions"].get(f"{kind}_guidance", 0) for kind in kinds}
    told = [f"{scale:g} ({kind})" for kind, scale in found.items() if scale not in (0, 1)]
    return " and ".join(told) or f"{sampling['guidance']:g}"


def _run_lines(record: Mapping[str, Any]) -> list[str]:
    cases = [f"  {case['case']}: {case['status']}" for case in record["cases"]]
    rows = {
        "made by": f"synthct {record['tool_version']}, {record['started']} to {record['finished']}",
        "exit code": str(record["exit_code"]),
        "cases": str(len(cases)),
    }
    return [*_rows(rows), *cases]


def _header_lines(header: Mapping[str, Any]) -> list[str]:
    rows = {"made by": f"synthct {header['tool_version']}", "model": header["model"]}
    if header["seed"] is not None:
        rows["seed"] = str(header["seed"])
    return _rows(rows)


def _rows(rows: Mapping[str, str]) -> list[str]:
    return [f"{label + ':':<12}{text}" for label, text in rows.items() if text]


def _mask_text(mask: Mapping[str, Any] | None) -> str:
    if mask is None:
        return "none"
    return f"{mask['file']}, sha256 {mask['sha256'][:12]}, read as {mask['scheme']}"


def _qc_text(qc: Mapping[str, Any]) -> str:
    if "passed" not in qc:
        return "not run"
    checked = f", {qc['checked']} structures checked" if "checked" in qc else ""
    reason = f": {qc['reason']}" if qc.get("reason") else ""
    return ("passed" if qc["passed"] else "FAILED") + checked + reason


def _times(values: list[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)
