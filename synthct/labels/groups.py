"""Which MAISI ids belong together: organ groups, hosts of lesions, regions of the body.

Everything here speaks MAISI ids (`schemes/maisi.toml`); no file is read, so importing is free.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

BODY = 200
"""MAISI id of the body envelope: whatever lies in the patient and has no label of its own."""

LEFT_LUNG_LOBES = (28, 29)
RIGHT_LUNG_LOBES = (30, 31, 32)
LUNG_LOBES = LEFT_LUNG_LOBES + RIGHT_LUNG_LOBES
AIRWAYS = (57, 132)

VERTEBRAE = (*range(33, 57), 127)  # L5 up to C1, and S1
LEFT_RIBS = tuple(range(63, 75))
RIGHT_RIBS = tuple(range(75, 87))
RIBS = LEFT_RIBS + RIGHT_RIBS
LIMB_AND_GIRDLE_BONES = tuple(range(87, 97))  # humeri, scapulae, claviculae, femora, hips
BONES = (*VERTEBRAE, *RIBS, *LIMB_AND_GIRDLE_BONES, 97, 120, 122)  # and sacrum, skull, sternum
CARTILAGE = (114,)
MUSCLES = tuple(range(98, 108))

LIVER = 1
SPLEEN = 3
PANCREAS = 4
KIDNEYS = (5, 14)
ADRENAL_GLANDS = (8, 9)
SOLID_ORGANS = (LIVER, SPLEEN, PANCREAS, *KIDNEYS, *ADRENAL_GLANDS, 118, 126)
HOLLOW_ORGANS = (10, 11, 12, 13, 15, 19, 62)
HEART = (115, 108)  # heart, left atrial appendage
ARTERIES = (6, 58, 59, 109, 112, 113, 123, 124)
VEINS = (7, 17, 25, 60, 61, 110, 111, 119, 125)
VESSELS = ARTERIES + VEINS
NERVOUS_SYSTEM = (22, 121)  # brain, spinal cord

TUMOURS = (23, 24, 26, 27, 128)
CYSTS = (116, 117)
LESIONS = TUMOURS + CYSTS

LESION_HOSTS: Mapping[int, tuple[int, ...]] = MappingProxyType(
    {
        23: LUNG_LOBES,
        24: (PANCREAS,),
        26: (LIVER,),
        27: (62,),
        116: (14,),
        117: (5,),
        128: BONES,
    }
)
"""Lesion id → ids of the organs that it grows in (MAISI.md section 2, unconditional labels)."""

GUIDED_LESIONS = tuple(lesion for lesion in LESION_HOSTS if lesion != 128)
"""Those that guidance takes out of the mask; a bone lesion has no one organ to become."""

ORGAN_GROUPS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "lung": LUNG_LOBES,
        "airway": AIRWAYS,
        "bone": BONES,
        "cartilage": CARTILAGE,
        "muscle": MUSCLES,
        "solid organ": SOLID_ORGANS,
        "hollow organ": HOLLOW_ORGANS,
        "heart": HEART,
        "vessel": VESSELS,
        "nervous system": NERVOUS_SYSTEM,
        "lesion": LESIONS,
        "body": (BODY,),
    }
)
"""A partition: every MAISI id that names something stands in exactly one group."""

REGIONS: Mapping[str, frozenset[int]] = MappingProxyType(
    {
        "head": frozenset({22, 120}),
        "chest": frozenset(LUNG_LOBES),
        "abdomen": frozenset({1, 2, 3, 4, 5, 14}),
        "pelvis": frozenset({93, 94}),
    }
)
"""Region → ids that tell it, from the top down (MAISI.md section 2: body-region indices)."""

_GROUP_OF = {member: group for group, members in ORGAN_GROUPS.items() for member in members}


def group_of(maisi_id: int) -> str | None:
    """The organ group of a MAISI id, None for ids that name nothing."""
    return _GROUP_OF.get(maisi_id)


def regions_present(ids: Iterable[int]) -> tuple[str, ...]:
    """The regions that the MAISI `ids` tell, in the order head, chest, abdomen, pelvis.

    >>> regions_present([1, 28, 200])
    ('chest', 'abdomen')
    """
    present = set(ids)
    return tuple(region for region, markers in REGIONS.items() if markers & present)
