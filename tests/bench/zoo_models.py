"""Networks of the zoo that no package has: plain PyTorch, seeded weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvBlock(nn.Sequential):
    """Convolution, BatchNorm and an activation."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, activation: nn.Module | None = None
    ) -> None:
        layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)]
        super().__init__(*layers, nn.Identity() if activation is None else activation)


class CifarBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: as it is, a 1x1 convolution, or a strided slice padded with channels."""

    def __init__(self, inputs: int, outputs: int, stride: int, padded: bool) -> None:
        super().__init__()
        self.first = ConvBlock(inputs, outputs, 3, stride, nn.ReLU())
        self.second = ConvBlock(outputs, outputs)
        self.stride, self.added = stride, outputs - inputs
        self.shortcut = ConvBlock(inputs, outputs, 1, stride) if self.added and not padded else None

    def forward(self, x: Tensor) -> Tensor:
        short = x
        if self.shortcut is not None:
            short = self.shortcut(x)
        elif self.added:
            half = self.added // 2
            short = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.added - half))
        return functional.relu(self.second(self.first(x)) + short)


def cifar_resnet(depth: int = 56, padded: bool = False) -> nn.Module:
    """ResNet for 32x32 images: three stages of 16, 32 and 64 channels."""
    blocks: list[nn.Module] = [ConvBlock(3, 16, activation=nn.ReLU())]
    width = 16
    for stage in range(3):
        for index in range((depth - 2) // 6):
            stride = 2 if stage and not index else 1
            blocks.append(CifarBlock(width, 16 << stage, stride, padded))
            width = 16 << stage
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class SplitStage(nn.Module):
    """A detector's stage: half of the channels goes through blocks one after the other, every step is concatenated."""

    def __init__(self, inputs: int, outputs: int, count: int, residual: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.enter = ConvBlock(inputs, outputs, 1, activation=nn.SiLU())
        pairs = [
            nn.Sequential(ConvBlock(half, half, activation=nn.SiLU()), ConvBlock(half, half, activation=nn.SiLU()))
            for _ in range(count)
        ]
        self.blocks = nn.ModuleList([Residual(pair) if residual else pair for pair in pairs])
        self.leave = ConvBlock((2 + count) * half, outputs, 1, activation=nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class PooledContext(nn.Module):
    """Three max-poolings in a row, all concatenated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = ConvBlock(channels, channels // 2, 1, activation=nn.SiLU())
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.leave = ConvBlock(channels * 2, channels, 1, activation=nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class Yolo(nn.Module):
    """An anchor-free detector of YOLOv8n's structure: three scales, separate branches for boxes and classes.

    A box side is the expected value of a distribution over 16 bins.
    """

    BINS = 16

    def __init__(self, size: int = 320, classes: int = 80) -> None:
        super().__init__()
        w = (16, 32, 64, 128, 256)

        def down(inputs: int, outputs: int) -> nn.Module:
            return ConvBlock(inputs, outputs, 3, 2, nn.SiLU())

        self.stem = nn.Sequential(down(3, w[0]), down(w[0], w[1]), SplitStage(w[1], w[1], 1, True))
        self.stage3 = nn.Sequential(down(w[1], w[2]), SplitStage(w[2], w[2], 2, True))
        self.stage4 = nn.Sequential(down(w[2], w[3]), SplitStage(w[3], w[3], 2, True))
        self.stage5 = nn.Sequential(down(w[3], w[4]), SplitStage(w[4], w[4], 1, True), PooledContext(w[4]))
        self.up4 = SplitStage(w[4] + w[3], w[3], 1, False)
        self.up3 = SplitStage(w[3] + w[2], w[2], 1, False)
        self.down4, self.out4 = down(w[2], w[2]), SplitStage(w[2] + w[3], w[3], 1, False)
        self.down5, self.out5 = down(w[3], w[3]), SplitStage(w[3] + w[4], w[4], 1, False)
        self.boxes = nn.ModuleList([self._branch(n, 64, 4 * self.BINS) for n in w[2:]])
        self.classes = nn.ModuleList([self._branch(n, 80, classes) for n in w[2:]])
        centres, strides = [], []
        for stride in (8, 16, 32):
            line = torch.arange(size // stride, dtype=torch.float32) + 0.5
            y, x = torch.meshgrid(line, line, indexing="ij")
            centres.append(torch.stack([x.flatten(), y.flatten()]))
            strides.append(torch.full((1, x.numel()), float(stride)))
        self.register_buffer("centres", torch.cat(centres, 1)[None])
        self.register_buffer("strides", torch.cat(strides, 1)[None])
        self.register_buffer("bins", torch.arange(self.BINS, dtype=torch.float32).reshape(1, -1, 1, 1))

    @staticmethod
    def _branch(inputs: int, width: int, outputs: int) -> nn.Module:
        first, second = ConvBlock(inputs, width, activation=nn.SiLU()), ConvBlock(width, width, activation=nn.SiLU())
        return nn.Sequential(first, second, nn.Conv2d(width, outputs, 1))

    def forward(self, image: Tensor) -> Tensor:
        c3 = self.stage3(self.stem(image))
        c4 = self.stage4(c3)
        c5 = self.stage5(c4)
        p4 = self.up4(torch.cat([functional.interpolate(c5, scale_factor=2.0), c4], 1))
        n3 = self.up3(torch.cat([functional.interpolate(p4, scale_factor=2.0), c3], 1))
        n4 = self.out4(torch.cat([self.down4(n3), p4], 1))
        n5 = self.out5(torch.cat([self.down5(n4), c5], 1))
        scales = [n3, n4, n5]
        rows = [
            torch.cat([box(x), kind(x)], 1).flatten(2)
            for x, box, kind in zip(scales, self.boxes, self.classes, strict=True)
        ]
        joined = torch.cat(rows, 2)
        sides, scores = joined[:, : 4 * self.BINS], joined[:, 4 * self.BINS :]
        chances = sides.reshape(image.shape[0], 4, self.BINS, -1).transpose(1, 2).softmax(1)
        near, far = (chances * self.bins).sum(1).chunk(2, 1)
        low, high = self.centres - near, self.centres + far
        boxes = torch.cat([(low + high) / 2, high - low], 1) * self.strides
        return torch.cat([boxes, scores.sigmoid()], 1)


class Unet(nn.Module):
    """Encoder and decoder with skip concatenations; up by transposed 2x2 convolutions."""

    def __init__(self, widths: Sequence[int] = (32, 64, 128, 256), classes: int = 4) -> None:
        super().__init__()
        self.down = nn.ModuleList([self._double(i, o) for i, o in zip((3, *widths), widths, strict=False)])
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList([nn.ConvTranspose2d(i, o, 2, 2) for i, o in pairs])
        self.merge = nn.ModuleList([self._double(2 * o, o) for _, o in pairs])
        self.head = nn.Conv2d(widths[0], classes, 1)

    @staticmethod
    def _double(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(
            ConvBlock(inputs, outputs, activation=nn.ReLU()), ConvBlock(outputs, outputs, activation=nn.ReLU())
        )

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for index, stage in enumerate(self.down):
            x = stage(functional.max_pool2d(x, 2) if index else x)
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([up(x), skips.pop()], 1))
        return self.head(x)


class Crnn(nn.Module):
    """Text lines: convolutions down to height 1, two bidirectional LSTMs, one row of logits per column."""

    def __init__(self, classes: int = 37) -> None:
        super().__init__()

        def block(inputs: int, outputs: int) -> nn.Module:
            return ConvBlock(inputs, outputs, activation=nn.ReLU())

        flat = nn.MaxPool2d((2, 1))
        self.features = nn.Sequential(
            block(1, 64), nn.MaxPool2d(2), block(64, 128), nn.MaxPool2d(2), block(128, 256), block(256, 256), flat,
            block(256, 512), flat, nn.Conv2d(512, 512, (2, 1), bias=False), nn.BatchNorm2d(512), nn.ReLU(),
        )  # fmt: skip
        self.first = nn.LSTM(512, 256, bidirectional=True)
        self.second = nn.LSTM(512, 256, bidirectional=True)
        self.head = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        columns = self.features(x).squeeze(2).permute(2, 0, 1)
        return self.head(self.second(self.first(columns)[0])[0])


class AudioBlock(nn.Module):
    """Depthwise dilated convolution over time, then a pointwise one, around a shortcut."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels, 5, padding=2 * dilation, dilation=dilation, groups=channels)
        self.first, self.second = nn.BatchNorm1d(channels), nn.BatchNorm1d(channels)
        self.pointwise = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.first(self.depthwise(x)))
        return functional.relu(x + self.second(self.pointwise(inner)))


class Audio(nn.Module):
    """Raw sound to classes with 1-D convolutions: strides, dilations, residuals, depthwise and pointwise."""

    def __init__(self, classes: int = 35) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(1, 64, 80, 4, 38), nn.BatchNorm1d(64), nn.ReLU()]
        width = 64
        for wider in (64, 128, 256):
            layers += [nn.Conv1d(width, wider, 3, 4, 1), nn.BatchNorm1d(wider), nn.ReLU()]
            layers += [AudioBlock(wider, dilation) for dilation in (1, 2, 4)]
            width = wider
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(2))


class HighResolution(nn.Module):
    """Two resolutions side by side that exchange features: strided convolutions down, nearest-neighbour Resize up."""

    def __init__(self, fine: int = 32, coarse: int = 64, rounds: int = 3, joints: int = 17) -> None:
        super().__init__()
        relu = nn.ReLU()
        self.stem = nn.Sequential(ConvBlock(3, fine, 3, 2, relu), ConvBlock(fine, fine, 3, 2, relu))
        self.split = ConvBlock(fine, coarse, 3, 2, relu)

        def residuals(width: int) -> nn.Module:
            return nn.Sequential(
                *(
                    nn.Sequential(
                        Residual(nn.Sequential(ConvBlock(width, width, 3, 1, relu), ConvBlock(width, width))), relu
                    )
                    for _ in range(2)
                )
            )

        self.fine = nn.ModuleList([residuals(fine) for _ in range(rounds)])
        self.coarse = nn.ModuleList([residuals(coarse) for _ in range(rounds)])
        self.up = nn.ModuleList([ConvBlock(coarse, fine, 1) for _ in range(rounds)])
        self.down = nn.ModuleList([ConvBlock(fine, coarse, 3, 2) for _ in range(rounds)])
        self.head = nn.Conv2d(fine, joints, 1)

    def forward(self, image: Tensor) -> Tensor:
        a = self.stem(image)
        b = self.split(a)
        for fine, coarse, up, down in zip(self.fine, self.coarse, self.up, self.down, strict=True):
            a, b = fine(a), coarse(b)
            a, b = functional.relu(a + functional.interpolate(up(b), scale_factor=2.0)), functional.relu(b + down(a))
        return self.head(a)
