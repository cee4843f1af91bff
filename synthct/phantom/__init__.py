"""Label maps of people who do not exist, from parametric shapes: for demos, tests and training."""

from synthct.phantom.phantom import make_phantom, make_phantom_with_tissues
from synthct.phantom.regions import REGIONS
from synthct.phantom.tissue import TISSUE_NAMES

__all__ = ["REGIONS", "TISSUE_NAMES", "make_phantom", "make_phantom_with_tissues"]
