"""How long the main job takes, part by part, and how much memory: whole processes, timed outside.

    python benchmarks/generate.py --mask seg.nii.gz --labels totalsegmentator --spacing 3 3 3
    python benchmarks/generate.py --phantom            # on a machine without data

Prints one row per command (seconds by part as the run itself records them, wall time and peak
memory of the process) for the mask at --spacing, then `--help` and `check`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        mask = _mask(options, Path(folder))
        words = ["--labels", options.labels] if options.labels else []
        words += ["--spacing", *map(str, options.spacing)] if options.spacing else []
        check = ["check", "--mask", str(mask), *words]
        _row("--help", ["--help"])
        _run(check)  # warm the file cache
        _row("check", check)
        out = Path(folder) / "out"
        generate = ["generate", "--mask", str(mask), *words, "-o", str(out), "--retries", "0"]
        _row("generate", generate)
        print(
            json.dumps(
                json.loads((out / "run.json").read_text(encoding="utf-8"))["seconds"], indent=2
            )
        )


def _row(name: str, arguments: list[str]) -> None:
    code, seconds, peak = _run(arguments)
    gib = peak / 2**20
    print(f"{name:<10} exit {code}  wall {seconds:7.2f} s  peak {gib:6.2f} GiB", flush=True)


def _run(arguments: list[str]) -> tuple[int, float, float]:
    """Exit code, wall seconds, peak resident memory in KiB of one process."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "synthct", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    return os.waitstatus_to_exitcode(status), time.perf_counter() - began, usage.ru_maxrss


def _mask(options: argparse.Namespace, folder: Path) -> Path:
    if options.mask:
        return Path(options.mask)
    path = folder / "phantom.nii.gz"
    _run(["mask", "phantom", "-o", str(path), "--region", "chest-abdomen"])
    return path


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mask")
    parser.add_argument("--phantom", action="store_true")
    parser.add_argument("--labels", default="")
    parser.add_argument("--spacing", nargs=3, type=float)
    options = parser.parse_args()
    if not options.mask and not options.phantom:
        parser.error("give --mask FILE or --phantom")
    return options


if __name__ == "__main__":
    main()
