"""A ResNet-50 for slices, in whichever of three layouts its file has. Strict keys.

torchvision's names (`conv1`, `layer1.0.conv1`, …); those of RadImageNet's own file (`backbone.0`,
`backbone.4.0.conv1`, …: the same network as a sequence); and the port of RadImageNet's Keras
weights that MAISI's script uses, whose convolutions have biases, whose blocks stride in the first
convolution and whose normalisation adds 1.001e-5.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from monai.networks.nets.resnet import ResNetBottleneck, resnet50
from torch import Tensor, nn

from synthct.checkpoints.load import finite, require_same_keys
from synthct.errors import DamagedWeights

_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_HEAD = ("fc.",)
KERAS_EPSILON = 1.001e-5


def is_resnet50(keys: Mapping[str, object]) -> bool:
    names = set(_translated(keys))
    return {"conv1.weight", "layer1.0.conv3.weight", "layer4.2.conv3.weight"} <= names


def load_resnet50(tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
    """(n, 3, rows, columns) → (n, 2048, rows/32, columns/32).

    Args:
        tensors: a state dict in one of the three layouts; a classifier `fc` is left out.
        path: for messages.

    Raises:
        DamagedWeights: a key too few, too many or of another shape; values that are not finite.
    """
    state = {k: v for k, v in _translated(tensors).items() if not k.startswith(_HEAD)}
    keras = "conv1.bias" in state
    with torch.device("meta"):
        network = _Trunk(keras)
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    for key in wanted:  # written by some tools only; not used in evaluation
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, torch.zeros((), dtype=torch.int64))
    require_same_keys(wanted, {k: tuple(v.shape) for k, v in state.items()}, path)
    owned = {key: finite(key, value, torch.float32, path) for key, value in state.items()}
    network.load_state_dict(owned, strict=True, assign=True)
    return network.eval()


class _Trunk(nn.Module):
    """MONAI's 2D ResNet-50 up to its last map, under torchvision's names."""

    def __init__(self, keras: bool) -> None:
        super().__init__()
        whole = resnet50(
            spatial_dims=2,
            n_input_channels=3,
            conv1_t_stride=2,
            feed_forward=False,
            bias_downsample=False,
            pretrained=False,
        )
        self.conv1, self.bn1 = whole.conv1, whole.bn1
        self.maxpool = whole.maxpool
        self.layer1, self.layer2 = whole.layer1, whole.layer2
        self.layer3, self.layer4 = whole.layer3, whole.layer4
        if keras:
            _as_keras(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        found: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return found


def _as_keras(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.empty(module.out_channels))
        elif isinstance(module, nn.BatchNorm2d):
            module.eps = KERAS_EPSILON
        elif isinstance(module, ResNetBottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)


def _translated(tensors: Mapping[str, Tensor] | Mapping[str, object]) -> dict[str, Tensor]:
    """`backbone.4.0.…` → `layer1.0.…`; other names as they are."""
    state: dict[str, Tensor] = {}
    for key, value in tensors.items():
        child, _, rest = key.removeprefix("backbone.").partition(".")
        if key.startswith("backbone."):
            if child not in _CHILDREN:
                raise DamagedWeights(f"{key}: no part of a ResNet-50 in RadImageNet's layout")
            key = f"{_CHILDREN[child]}.{rest}"
        state[key] = value  # type: ignore[assignment]
    return state
