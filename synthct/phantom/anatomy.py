"""All parts of one person in painting order: soft tissue first, bones and findings last."""

from __future__ import annotations

from synthct.phantom.abdomen import abdomen_parts
from synthct.phantom.chest import airway_parts, heart_parts, lung_parts, vessel_parts
from synthct.phantom.head import head_parts
from synthct.phantom.lesions import lesion_parts
from synthct.phantom.muscles import muscle_parts
from synthct.phantom.part import Part
from synthct.phantom.pelvis import pelvic_bone_parts, pelvic_organ_parts, pelvic_vessel_parts
from synthct.phantom.ribcage import ribcage_parts
from synthct.phantom.spine import spine_parts
from synthct.phantom.torso import Torso


def anatomy(torso: Torso, *, lesions: bool = False) -> list[Part]:
    """The list that is painted, one part over the other."""
    return [
        *muscle_parts(torso),
        *lung_parts(torso),
        *heart_parts(torso),
        *abdomen_parts(torso),
        *pelvic_organ_parts(torso),
        *airway_parts(torso),
        *vessel_parts(torso),
        *pelvic_vessel_parts(torso),
        *head_parts(torso),
        *ribcage_parts(torso),
        *pelvic_bone_parts(),
        *spine_parts(torso),
        *(lesion_parts(torso) if lesions else ()),
    ]
