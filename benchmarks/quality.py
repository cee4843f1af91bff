"""How good are the embedded models, by the project's own measures? Writes docs/quality.md.

    python benchmarks/quality.py DATA --work DIR [--mr-weights DIR]

DATA has ct/CASE/image.nii.gz, mr_brain/CASE/t1.nii.gz and VALIDATION.txt. CT: one from each of
eight phantoms (persons that no model was trained on) against the held-out CT (`quality_ct.py`). MR:
heads without a mask against the held-out ones, where the weights are there (`quality_mr.py`).
Beside each a ruler: other real scans, the held-out ones blurred. What lies in DIR already is not
made again; after a change of weights give another DIR. `--output`: another folder than docs/.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import quality_ct
import quality_mr
from quality_sets import ROOT, values


def main() -> None:
    options = _options()
    ct = quality_ct.measure(options.data, options.work / "ct")
    print(json.dumps({name: values(found) for name, found in ct.reports.items()}, indent=1))
    images = options.output / "images"
    images.mkdir(parents=True, exist_ok=True)
    (images / "quality-ct.png").write_bytes(quality_ct.picture(ct))
    sections = [quality_ct.section(ct)]
    if quality_mr.weights_there(options.mr_weights):
        mr = quality_mr.measure(options.data, options.work / "mr", options.mr_weights)
        (images / "quality-mr.png").write_bytes(quality_mr.picture(mr))
        sections.append(quality_mr.section(mr))
    else:
        sections.append(f"## MR: {quality_mr.MODEL}\n\nNot measured: its weights are not here.\n")
    document = "\n".join([HEAD, *sections, TAIL])
    (options.output / "quality.md").write_text(document, encoding="utf-8")


HEAD = """\
# Quality of the embedded models

Written by `python benchmarks/quality.py`. What the measures are: [evaluation.md](evaluation.md).
"""

TAIL = """\
## What these numbers cannot say

Three real CT: fewer slices than a covariance of 192 features needs, so the Fréchet distances are
biased upwards, and the intervals, which show the spread over so few cases, are themselves rough. The
sets of CT also differ in who was scanned and how far the view reaches (chest and upper abdomen of
patients; chest and abdomen of phantoms without a table), and every distance counts that. mini-slices
averages its maps over a slice at 2 mm: which body part is shown and how bright it is weigh more in it
than texture does. Noise, slices and seams are measured in CT alone. A classifier that cannot tell
slices apart is a small one; a larger one, or a reader, may.

## The literature's figures, and why they are not comparable

| what | figure |
|---|---|
| MAISI, Table 3: FID 2.5D, autoPET (axial, sagittal, coronal, average) | 3.301, 5.838, 9.109, 6.083 |
| the same with rectified flow | 2.685, 4.723, 7.963, 5.124 |
| the same table, average: HA-GAN; LDM; DDPM | 13.757; 12.379; 22.608 |
| MAISI, Table 1: VAE on MSD07 (LPIPS, SSIM, PSNR) | 0.038, 0.978, 37.266 |
| the same on MSD08 | 0.046, 0.970, 36.559 |
| the same on BraTS18 (MR) | 0.026, 0.977, 39.003 |
| cDPM (brain MR), 500 against 500: MS-SSIM; MMD; FID of three planes | 78.6; 3.14; 32.4, 45.8, 91.1 |

They cannot be held against the tables above: those figures are of other feature networks
(RadImageNet's ResNet-50, Inception), other patients, more scans, finer grids and far larger models.
A Fréchet distance has the unit of its network's features; between two networks not even the order
need agree, and with three cases it is mostly bias. To compare with MAISI, run `synthct evaluate` on
both sets with `--features` and RadImageNet's ResNet-50: its protocol is then the default.
"""  # noqa: E501


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for what is made")
    parser.add_argument("--mr-weights", type=Path, help="in place of the embedded ones")
    parser.add_argument("--output", type=Path, default=ROOT / "docs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
