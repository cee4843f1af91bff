"""What the networks are told in words: body regions, contrast; and the view that goes with them.

No torch. Whatever a model cannot be told is refused before anything else is done.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from synthct.checkpoints.catalogue import Entry, FieldOfView
from synthct.errors import GridError, UsageError
from synthct.geometry import Geometry, Shape, Spacing
from synthct.workflows.request import Request

NEAR_MM = 1.0
"""The spacing that a published field of view without a size is sampled near."""

FILE_SUFFIX = {"t1": "T1w", "t2": "T2w", "flair": "FLAIR", "swi": "swi", "mra": "angio"}
"""Contrast → suffix of the file, as BIDS has it."""


@dataclass(frozen=True)
class Told:
    """Attributes:
    regions: that the networks are told, head first; empty for networks that take none.
    modality_class: the networks' code of modality and contrast, None where they take none.
    kind: suffix of the image's file.
    row: the published field of view that the request is like, None where none is.
    """

    regions: tuple[str, ...]
    modality_class: int | None
    kind: str
    row: FieldOfView | None = None


def tell(request: Request, entry: Entry, shown: tuple[str, ...] | None) -> Told:
    """What `entry` is told of the request; `shown` are the regions of the mask, None without one.

    Raises:
        UsageError: the model makes no volumes, takes no mask, or not such words.
    """
    if entry.task == "mask-generator":
        raise UsageError(f"{entry.name} makes masks, not volumes", "it serves `--anatomy`")
    if shown is not None and entry.task == "image-only":
        raise UsageError(
            f"{entry.name} takes no mask: it makes {entry.modality} of a field of view",
            "leave out --mask; `synthct weights list` shows which models follow masks",
        )
    code, kind = _contrast(request, entry)
    _require_regions(request, entry, masked=shown is not None)
    row = None if shown is not None else published_row(request, entry)
    regions: tuple[str, ...] = ()
    if entry.conditions.region:
        regions = request.region or shown or (regions_of(row) if row else ())
    return Told(regions, code, kind, row)


def regions_of(row: FieldOfView) -> tuple[str, ...]:
    """Of a row `chest+abdomen`; none of a row for any region."""
    return () if row.region == "any" else tuple(row.region.split("+"))


def view(request: Request, entry: Entry, row: FieldOfView | None) -> Geometry:
    """The grid of a request without a mask: size × spacing, or what of them the table gives.

    Raises:
        UsageError: neither the request nor the published table says how large.
    """
    size, spacing = request.size, request.spacing_mm
    if size is not None and spacing is not None:
        return Geometry.from_spacing(size, spacing)
    if row is None:
        raise UsageError(
            "without a mask, a size (voxels) and a spacing (mm) are needed",
            "e.g. --size 128 128 128 --spacing 3 3 3",
        )
    if size is None:
        size = _size(row, spacing, entry)
    return Geometry.from_spacing(size, spacing or _over(row.mm, size))


def published_row(request: Request, entry: Entry) -> FieldOfView | None:
    """The row of the published table for the region, contrast and plane asked for.

    Raises:
        GridError: there are rows, and none is of that region, contrast or plane (not `force`).
    """
    rows = [row for row in entry.fields_of_view if _matches(row, request)]
    if rows:
        return max(rows, key=_likely)
    if not entry.fields_of_view or request.force:
        return None
    words = [*request.region, request.contrast, request.plane]
    asked = " ".join(word for word in words if word)
    raise GridError(
        f"{entry.name} was not trained on {asked}",
        f"nearest: {_nearest(entry, request)}; --force goes on with --size and --spacing",
    )


def require_trained_grid(grid: Geometry, entry: Entry, force: bool) -> list[str]:
    """Notes on the voxels and spacing of a request without a mask, for a published model.

    Raises:
        GridError: outside the published sizes or spacings, and not `force`.
    """
    if not entry.fields_of_view:
        return []
    size, spacing = nearest_grid(grid, entry)
    if size == grid.shape and _close(spacing, grid.spacing_mm):
        return []
    asked = f"{_by(grid.shape)} voxels of {_by(grid.spacing_mm)} mm"
    if force:
        return [f"{asked}: outside what {entry.name} was trained on, forced"]
    raise GridError(
        f"{entry.name} was not trained on {asked}",
        f"the nearest valid request is --size {_words(size)} --spacing {_words(spacing)}; "
        "--force goes on regardless",
    )


def nearest_grid(grid: Geometry, entry: Entry) -> tuple[Shape, Spacing]:
    """The size and spacing that the model was trained on, nearest to `grid` in millimetres."""
    size = _nearest_size(grid.shape, entry)
    spacing = [
        min(max(extent / n if n != had else pitch, low), high)
        for extent, n, had, pitch, (low, high) in zip(
            grid.extent_mm, size, grid.shape, grid.spacing_mm, entry.spacing_range_mm, strict=True
        )
    ]
    if entry.sizes is not None and entry.sizes.square:
        least = entry.fov_min_mm[0] / size[0]
        spacing[:2] = [max(spacing[0], spacing[1], least)] * 2
    i, j, k = (
        s if _near(s, p) else round(s, 3) for s, p in zip(spacing, grid.spacing_mm, strict=True)
    )
    return size, (i, j, k)


def trained_shape(shape: Shape, entry: Entry) -> Shape:
    """The smallest published shape that holds `shape`; `shape` where none does or any is fine."""
    if entry.sizes is None:
        return shape
    i, j, k = shape
    sides = [n for n in entry.sizes.in_plane if n >= max(i, j)]
    slices = [n for n in entry.sizes.slices if n >= k]
    if not sides or not slices:
        return shape
    return min(sides), min(sides), min(slices)


def _contrast(request: Request, entry: Entry) -> tuple[int | None, str]:
    asked = request.contrast
    known = entry.skull_stripped if request.skull_stripped else entry.contrasts
    if request.skull_stripped and not known:
        raise UsageError(f"{entry.name} knows no skull-stripped images", _models("skull_stripped"))
    if request.skull_stripped and asked is None:
        raise UsageError("--skull-stripped needs a contrast", f"--contrast {'|'.join(known)}")
    if asked is not None and asked not in known:
        raise UsageError(
            f"{entry.name} knows no contrast {asked!r}",
            f"it knows: {', '.join(known)}" if known else _models("contrasts"),
        )
    code = entry.modality_code if asked is None else known[asked]
    if entry.modality == "CT":
        return code, "ct"
    return code, "mr" if asked is None else FILE_SUFFIX.get(asked, asked)


def _models(table: str) -> str:
    from synthct.checkpoints.catalogue import entries

    return f"these do: {', '.join(e.name for e in entries().values() if getattr(e, table))}"


def _require_regions(request: Request, entry: Entry, *, masked: bool) -> None:
    known: dict[str, None] = {}
    known.update((name, None) for name in entry.regions if entry.conditions.region)
    if not masked:
        for row in entry.fields_of_view:
            known.update(dict.fromkeys(regions_of(row)))
    unknown = [region for region in request.region if region not in known]
    if unknown:
        raise UsageError(
            f"{entry.name} takes no region {', '.join(unknown)}",
            f"it knows: {', '.join(known) or 'no regions'}",
        )
    planes = {row.plane for row in entry.fields_of_view if row.plane}
    if request.plane is not None and (masked or not planes):
        raise UsageError(f"{entry.name} knows no planes of acquisition", "leave out --plane")


def _matches(row: FieldOfView, request: Request) -> bool:
    """Without words every guaranteed row; a row for any region stands for none by name."""
    if request.region and set(regions_of(row)) != set(request.region):
        return False
    if request.contrast is not None and row.contrast not in (None, request.contrast):
        return False
    return request.plane is None or row.plane == request.plane


def _likely(row: FieldOfView) -> tuple[bool, float, int]:
    return row.guaranteed, row.share_percent or 0.0, row.images or 0


def _nearest(entry: Entry, request: Request) -> str:
    """The row that shares most words with the request."""

    def shared(row: FieldOfView) -> int:
        both = len(set(regions_of(row)) & set(request.region))
        return both + (row.contrast == request.contrast) + (row.plane == request.plane)

    best = max(entry.fields_of_view, key=lambda row: (shared(row), _likely(row)))
    words = [f"--region {' '.join(regions_of(best))}"] if regions_of(best) else []
    words += [f"--contrast {best.contrast}"] if best.contrast else []
    words += [f"--plane {best.plane}"] if best.plane and request.plane else []
    return " ".join(words)


def _size(row: FieldOfView, spacing: Spacing | None, entry: Entry) -> Shape:
    if row.size is not None and spacing is None:
        return row.size
    pitch = spacing or (NEAR_MM,) * 3
    multiple = 1 if spacing else entry.grid_multiple
    i, j, k = (
        min(max(ceil(mm / s / multiple - 1e-6) * multiple, low), high)
        for mm, s, low, high in zip(row.mm, pitch, entry.shape_min, entry.shape_max, strict=True)
    )
    return i, j, k


def _over(extent_mm: Iterable[float], size: Shape) -> Spacing:
    i, j, k = (mm / n for mm, n in zip(extent_mm, size, strict=True))
    return i, j, k


def _nearest_size(shape: Shape, entry: Entry) -> Shape:
    if entry.sizes is None:
        i, j, k = (
            min(max(n, low), high)
            for n, low, high in zip(shape, entry.shape_min, entry.shape_max, strict=True)
        )
        return i, j, k
    side = [min(entry.sizes.in_plane, key=lambda one: abs(one - n)) for n in shape[:2]]
    slices = min(entry.sizes.slices, key=lambda one: abs(one - shape[2]))
    if entry.sizes.square:
        side = [max(side)] * 2
    return side[0], side[1], slices


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-6 * max(a, b)


def _close(one: Spacing, other: Spacing) -> bool:
    return all(_near(a, b) for a, b in zip(one, other, strict=True))


def _by(values: Iterable[float]) -> str:
    return " x ".join(f"{v:.4g}" for v in values)


def _words(values: Iterable[float]) -> str:
    return " ".join(f"{v:.4g}" for v in values)
