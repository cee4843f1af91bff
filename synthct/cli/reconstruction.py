"""`synthct encode`, `decode` and `evaluate reconstruction`: a volume through an autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthct.cli.console import JsonOption, QuietOption, VerboseOption, edge, emit
from synthct.cli.words import (
    DeviceOption,
    DevicesOption,
    MaxMemoryOption,
    ModelOption,
    OverwriteOption,
    WeightsOption,
)
from synthct.workflows.progress import progress_on_stderr

if TYPE_CHECKING:
    from synthct.workflows.reconstruction import Codec

_DEFAULT_MODEL = "maisi-mini-ct"

ResampleOption = Annotated[
    tuple[float, float, float] | None,
    typer.Option(
        "--spacing", metavar="I J K", help="Resample to this first (mm); default: as it is."
    ),
]


def register(app: typer.Typer) -> None:
    app.command("encode")(encode)
    app.command("decode")(decode)


def add_to(evaluate: typer.Typer) -> None:
    """The command of the group `evaluate`."""
    evaluate.command("reconstruction")(reconstruction)


@edge
def encode(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="NIfTI, NRRD or MHA.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The latent (.npz).")
    ],
    model: ModelOption = _DEFAULT_MODEL,
    weights: WeightsOption = None,
    spacing: ResampleOption = None,
    device: DeviceOption = "auto",
    max_memory: MaxMemoryOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write the latent of a scan: what a model's autoencoder makes of it.

    \b
    Example: synthct encode scan.nii.gz -o scan_latent.npz
    """
    from synthct.workflows.reconstruction import encode as run

    with progress_on_stderr(quiet) as progress:
        result = run(
            image,
            output,
            _codec(model, weights, device, max_memory),
            spacing_mm=spacing,
            overwrite=overwrite,
            progress=progress,
        )
    emit(result, as_json, _render_encoded, quiet=quiet)


@edge
def decode(
    latent: Annotated[Path, typer.Argument(metavar="LATENT", help="From `synthct encode`.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The volume (.nii.gz).")
    ],
    model: ModelOption = _DEFAULT_MODEL,
    weights: WeightsOption = None,
    device: DevicesOption = "auto",
    max_memory: MaxMemoryOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write the volume of a latent, on the grid that it was encoded from.

    \b
    Example: synthct decode scan_latent.npz -o scan_again.nii.gz
    """
    from synthct.workflows.reconstruction import decode as run

    with progress_on_stderr(quiet) as progress:
        result = run(
            latent,
            output,
            _codec(model, weights, device, max_memory),
            overwrite=overwrite,
            progress=progress,
        )
    emit(result, as_json, lambda made: f"{made['output']}: {_size(made)}", quiet=quiet)


@edge
def reconstruction(
    volumes: Annotated[list[Path], typer.Argument(metavar="VOLUME...", help="Scans.")],
    model: ModelOption = _DEFAULT_MODEL,
    weights: WeightsOption = None,
    spacing: ResampleOption = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Write the reconstructions there."),
    ] = None,
    lpips: Annotated[
        Path | None,
        typer.Option(
            "--lpips",
            metavar="FILE",
            help="Also LPIPS: TorchScript, or the tensors of lpips.LPIPS(net='alex').",
        ),
    ] = None,
    device: DeviceOption = "auto",
    max_memory: MaxMemoryOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """PSNR and SSIM, in the body, of scans that went through a model's autoencoder and back.

    \b
    Example: synthct evaluate reconstruction scan.nii.gz --model maisi-ct-rflow
    """
    from synthct.workflows.reconstruction import evaluate_reconstruction

    with progress_on_stderr(quiet) as progress:
        result = evaluate_reconstruction(
            volumes,
            _codec(model, weights, device, max_memory),
            spacing_mm=spacing,
            output=output,
            lpips=lpips,
            overwrite=overwrite,
            progress=progress,
        )
    emit(result, as_json, _render_evaluation, quiet=quiet)


def _codec(model: str, weights: Path | None, device: str, max_memory: str | None) -> Codec:
    from synthct.workflows.reconstruction import Codec
    from synthct.workflows.request import memory_bytes

    return Codec(model, weights, device, None if max_memory is None else memory_bytes(max_memory))


def _render_encoded(made: Mapping[str, Any]) -> str:
    latent = " x ".join(str(n) for n in made["shape"])
    image = " x ".join(str(n) for n in made["image_shape"])
    return (
        f"{made['output']}: {latent} for {image} voxels "
        f"({made['voxels_per_number']:.1f} voxels to a number), {made['model']}"
    )


def _size(made: Mapping[str, Any]) -> str:
    shape = " x ".join(str(n) for n in made["shape"])
    return f"{shape} voxels at {' x '.join(f'{s:.4g}' for s in made['spacing_mm'])} mm"


def _render_evaluation(result: Mapping[str, Any]) -> str:
    lines = [f"{result['model']}, in the body (PSNR dB, SSIM, mean error, mean absolute error)"]
    for case in result["cases"]:
        body = case["body"]
        lines.append(
            f"  {Path(case['volume']).name}: {body['psnr_db']:.2f} dB, {body['ssim']:.4f}, "
            f"{body['mean_error']:+.1f}, {body['mean_absolute_error']:.1f} {case['unit']}"
            f" ({_size(case)}; whole volume {case['whole']['psnr_db']:.2f} dB)"
            + (f", LPIPS {body['lpips']:.4f}" if "lpips" in body else "")
        )
    if len(result["cases"]) > 1:
        lines.append(f"  mean: {result['mean']['psnr_db']:.2f} dB, {result['mean']['ssim']:.4f}")
    return "\n".join(lines)
