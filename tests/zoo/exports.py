"""Models of the zoo that PyTorch exports, by both of its exporters; runs in the peers' environment.

    .venv-peers/bin/python tests/zoo/exports.py NAME OUT.onnx

The networks are those of tests/bench/zoo_registry.py and some more, with seeded weights.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
import export_list
from zoo_registry import ZOO, Entry, nn, seeded, timm, torch, transformers, vision

LENGTH = 64


class Outputs(nn.Module):
    """A language model that gives one tensor."""

    def __init__(self, body: Any, key: str) -> None:
        super().__init__()
        self.body, self.key = body, key

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        return self.body(input_ids=input_ids, attention_mask=attention_mask)[self.key]


class Recurrent(nn.Module):
    """Two layers of GRU between linear ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(40, 64), nn.Linear(128, 10)
        self.body = nn.GRU(64, 64, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, x: Any) -> Any:
        return self.last(self.body(torch.relu(self.first(x)))[0])


class Sums(nn.Module):
    """Attention whose products are written as Einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Linear(96, 3 * 96)
        self.mixed = nn.Parameter(torch.randn(4, 24, 96) / 10)
        self.last = nn.Linear(96, 10)

    def forward(self, x: Any) -> Any:
        q, k, v = self.make(x).reshape(x.shape[0], x.shape[1], 3, 4, 24).unbind(2)
        weights = torch.einsum("bihd,bjhd->bhij", q, k).div(24**0.5).softmax(-1)
        read = torch.einsum("bhij,bjhd->bihd", weights, v)
        return self.last(x + torch.einsum("bihd,hde->bie", read, self.mixed))


class Shared(nn.Module):
    """One convolution used at three places, and one matrix as embedding and, transposed, as classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared = nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 32, 3, 1, 1)
        self.words = nn.Parameter(torch.randn(50, 32) / 5)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.stem(x))
        for _ in range(3):
            x = x + torch.relu(self.shared(x)) / 2
        found = x.mean((2, 3)) @ self.words.T
        return torch.softmax(found, 1) @ self.words, found


def language_model(kind: str) -> Any:
    """A small one of a family of transformers, with eager attention: the masks are in the graph."""
    size = {"vocab_size": 5000, "attn_implementation": "eager"}
    if kind == "bert":
        config = transformers.BertConfig(num_hidden_layers=4, hidden_size=256, num_attention_heads=4,
                                         intermediate_size=1024, **size)  # fmt: skip
        return Outputs(transformers.BertModel(config), "last_hidden_state")
    if kind == "distilbert":
        config = transformers.DistilBertConfig(n_layers=4, dim=256, n_heads=4, hidden_dim=1024, **size)
        return Outputs(transformers.DistilBertModel(config), "last_hidden_state")
    config = transformers.GPT2Config(n_layer=4, n_embd=256, n_head=4, use_cache=False, **size)
    return Outputs(transformers.GPT2LMHeadModel(config), "logits")


def _timm(name: str) -> Callable[[], Any]:
    return lambda: timm.create_model(name)


MORE: dict[str, Callable[[], Any]] = {
    "bert": lambda: language_model("bert"),
    "distilbert": lambda: language_model("distilbert"),
    "gpt2": lambda: language_model("gpt2"),
    "gru": Recurrent,
    "einsum": Sums,
    "shared": Shared,
    "video_resnet": vision.video.r3d_18,
    "vit": _timm("vit_tiny_patch16_224"),
    "swin": vision.swin_t,
    "convnext": _timm("convnext_atto"),
}


def export(name: str, path: Path) -> None:
    """Write one model of the list."""
    listed = export_list.EXPORTS[name]
    network, dynamo = listed["network"], listed["dynamo"]
    shape = tuple(listed["shape"])
    if network in MORE:
        entry = Entry(MORE[network], shape, dynamo, opset=18 if dynamo else 17)
    else:
        entry = replace(ZOO[network], shape=shape, dynamo=dynamo, opset=18 if dynamo else 17)
    if listed.get("tokens"):
        torch.manual_seed(0)
        net = entry.build().eval()
        ids = torch.randint(1, 5000, shape)
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    else:
        net, given = seeded(network, entry) if len(shape) > 3 else (_seeded(entry), {"input": torch.randn(shape)})
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = Path(scratch) / "model.onnx"
        more: dict[str, Any] = {"external_data": False} if dynamo else {}
        torch.onnx.export(
            net, tuple(given.values()), made, input_names=list(given), opset_version=entry.opset, dynamo=dynamo, **more
        )
        onnx.save(onnx.load(made), path)


def _seeded(entry: Entry) -> Any:
    torch.manual_seed(0)
    return entry.build().eval()


if __name__ == "__main__":
    torch.set_num_threads(1)
    export(sys.argv[1], Path(sys.argv[2]))
