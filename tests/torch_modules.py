"""Small modules of PyTorch for the tests of quantlab.torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import quantlab

BOTH = pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
EVERYTHING = quantlab.Selection(include=("*",))
MARKS = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


def images(count: int, size: int = 16) -> list[Any]:
    """Batches of four images with labels, the same every time."""
    rng = torch.Generator().manual_seed(3)
    return [(torch.randn(4, 3, size, size, generator=rng), torch.arange(4)) for _ in range(count)]


def settle(module: nn.Module) -> None:
    """Weights and statistics of BatchNorm that are not those of the beginning, the same every time."""
    rng = torch.Generator().manual_seed(5)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = torch.randn(part.num_features, generator=rng) / 5
            part.running_var = torch.rand(part.num_features, generator=rng) + 0.5
            part.weight.data = torch.rand(part.num_features, generator=rng) + 0.5
            part.bias.data = torch.randn(part.num_features, generator=rng) / 5
        elif isinstance(part, (nn.Conv2d, nn.Linear)):
            part.weight.data = torch.randn(part.weight.shape, generator=rng) / part.weight[0].numel() ** 0.5


class Block(nn.Module):
    """A residual block with a functional sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + x)


class Residual(nn.Module):
    """What a ResNet is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.layer1 = nn.Sequential(Block(32))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(32, 7)
        settle(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.pool(self.layer1(self.stem(x))), 1))


class TwoInputs(nn.Module):
    """Two inputs, outputs in a mapping with a tuple in it."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 32)
        self.b = nn.Linear(8, 32, bias=False)
        self.c = nn.Linear(32, 5)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, Any]:
        a, b = torch.relu(self.a(left)), torch.relu(self.b(right))
        return {"sum": self.c(a + b), "parts": (a, b), "nothing": None}


class Tokens(nn.Module):
    """Integers in, as language models take them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 32)
        self.first = nn.Linear(32, 64)
        self.second = nn.Linear(64, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(self.table(ids).mean(1))))


class Branchy(nn.Module):
    """Does another thing with other data."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) if x.sum() > 0 else -self.fc(x)


class Attention(nn.Module):
    """A transformer's block with PyTorch's own attention."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.qkv = nn.Linear(32, 96)
        self.out = nn.Linear(32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, length, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).reshape(batch, length, 32))
