"""Shape names for annotations in the tensor's world.

Letters: n sample, c channel, i j k voxel axes (height and depth mean nothing before an affine
speaks). The names say what a tensor holds; they are plain `torch.Tensor` to the type checker.
"""

from __future__ import annotations

from typing import TypeAlias

import torch

Latent: TypeAlias = torch.Tensor  # (n, c, i/f, j/f, k/f): f is the autoencoder's factor, 2 or 4
Image: TypeAlias = torch.Tensor  # (n, 1, i, j, k): network range, 0 to 1
LabelBits: TypeAlias = torch.Tensor  # (n, 8, i, j, k): bit b of the label in channel b
FeatureMap: TypeAlias = torch.Tensor  # (n, c, i, j, k): between two layers
Slab: TypeAlias = torch.Tensor  # (1, c, planes, j, k): some neighbouring planes of one map
Plane: TypeAlias = torch.Tensor  # (1, c, j, k): one plane of a slab
PerChannel: TypeAlias = torch.Tensor  # (c,)
