"""Write the results of benchmarks/decode.py into docs/performance.md.

    python benchmarks/decode_tables.py result.json [more.json ...] docs/performance.md

Replaces what stands between the two `measured` markers; every figure comes from the JSON files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
COLUMNS = {
    "wall_s": ("wall, s", "{:.1f}"),
    "wall_ratio": ("wall / MONAI", "{:.2f}"),
    "cpu_ratio": ("CPU / MONAI", "{:.2f}"),
    "growth_maps": ("growth, maps", "{:.2f}"),
    "predicted_maps": ("predicted, maps", "{:.2f}"),
    "work": ("work", "{:.2f}"),
    "relative_l2": ("relative L2", "{:.1e}"),
}


def table(found: dict[str, Any]) -> str:
    machine = found["machine"]
    size = "×".join(map(str, machine["size"]))
    channels = ", ".join(map(str, machine["channels"]))
    lines = [
        f"### {size}, {channels} channels, {machine['device']}, {machine['threads']} threads",
        "",
        f"torch {machine['torch']}; {machine['pairs']} rounds; load average at the end "
        f"{machine['load_average']:.1f}; one map is {found['map_bytes'] / 2**20:.0f} MiB.",
        "",
        "| | " + " | ".join(title for title, _ in COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name, row in found["rows"].items():
        if row.get("predicted_bytes"):
            row["predicted_maps"] = row["predicted_bytes"] / found["map_bytes"]
        cells = [_cell(row.get(key), form) for key, (_, form) in COLUMNS.items()]
        if row["out_of_memory"] or row["failed"]:
            cells[0] = "out of memory" if row["out_of_memory"] else "failed"
        lines.append(f"| {_title(name)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _title(name: str) -> str:
    words = name.split()
    if words[0] == "synthct" and len(words) > 2:
        return f"{words[0]} {words[1]} in {int(words[2]) / 2**30:.2f} GiB"
    return name


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def main(results: list[str], page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    tables = "\n\n".join(
        table(json.loads(Path(result).read_text(encoding="utf-8"))) for result in results
    )
    page.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:-1], Path(sys.argv[-1]))
