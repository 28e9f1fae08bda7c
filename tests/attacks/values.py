"""NaN, infinity and huge numbers: in weights, biases, scales, masks and data. What cannot be a number is refused by
name; what a mask has to be works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from attack import Attack, Command
from onnx import numpy_helper

from models import conv_net, floats, image_batches, parse, quantized

HUGE = float(np.finfo(np.float32).max)
BAD = {"nan": np.nan, "inf": np.inf, "neginf": -np.inf}
PARTS = {"weight": "w1", "last weight": "w3", "bias": "b1", "last bias": "b3"}
ATTENTION = """m (float[N,4,16] x) => (float[N,4,16] y) {
    q = MatMul (x, wq)
    k = MatMul (x, wk)
    kt = Transpose <perm = [0, 2, 1]> (k)
    s = MatMul (q, kt)
    MASK
    p = Softmax <axis = -1> (masked)
    o = MatMul (p, x)
    y = MatMul (o, wo)
}"""
MASKS = {"where": "masked = Where (keep, s, mask)", "add": "masked = Add (s, mask)", "max": "masked = Max (s, mask)"}


def poisoned(proto: onnx.ModelProto, name: str, value: float) -> onnx.ModelProto:
    """A copy with one value of an initializer replaced."""
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    tensor = next(t for t in copied.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] = value
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return copied


def masked_attention(form: str, value: float) -> onnx.ModelProto:
    """Causal attention, as GPT-2 and BERT are exported, with this value where a token must not look."""
    weights = {name: floats(16, 16, seed=k) for k, name in enumerate(("wq", "wk", "wo"))}
    keep = np.tril(np.ones((4, 4), bool))
    constants = {
        "where": {"keep": keep, "mask": np.float32(value)},
        "add": {"mask": np.where(keep, 0, value).astype(np.float32)},
        "max": {"mask": np.float32(value)},
    }[form]
    arrays = {name: np.asarray(array) for name, array in (weights | constants).items()}
    return parse(ATTENTION.replace("MASK", MASKS[form]), arrays)


def no_bad_number(*names: str):
    """A check that no initializer of these models has NaN or infinity."""

    def check(folder: Path) -> str | None:
        for name in names:
            if (folder / name).exists():
                for tensor in onnx.load(folder / name).graph.initializer:
                    values = numpy_helper.to_array(tensor)
                    if values.dtype.kind == "f" and not np.isfinite(values).all():
                        return f"{name}: {tensor.name} is not finite"
        return None

    return check


def FAMILY(folder: Path) -> Iterator[Attack]:
    proto = conv_net()
    made = quantized(proto, image_batches())
    onnx.save(proto, folder / "m.onnx")
    onnx.save(made.model, folder / "qd.onnx")
    np.save(folder / "x.npy", floats(24, 3, 8, 8))
    for name, scale in (("huge", HUGE), ("large", 1e37)):
        np.save(folder / f"{name}.npy", np.full((8, 3, 8, 8), scale, np.float32))
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        np.save(folder / f"{name}.npy", np.full((8, 3, 8, 8), value, np.float32))
    import quantlab

    quantlab.calibrate(proto, image_batches()).save(folder / "t.json")
    data = ["--data", "x.npy"]

    # a layer's own constants
    for part, tensor in PARTS.items():
        for kind, value in BAD.items():
            bad = f"{tensor}_{kind}.onnx"
            onnx.save(poisoned(proto, tensor, value), folder / bad)
            quantlab.CalibrationTable(made_amax()).save(folder / "any.json")
            for what, argv in (
                ("calibrate", ["calibrate", bad, *data, "-o", "o.json"]),
                ("calibrate all", ["calibrate", bad, *data, "--tensors", "all", "-o", "o.json"]),
                ("quantize", ["quantize", bad, "--table", "any.json", "-o", "o.onnx"]),
                ("migrate", ["migrate", bad, "--table", "any.json", "-o", "o.onnx"]),
                ("fp16", ["fp16", bad, "-o", "o.onnx"]),
            ):
                yield Command(f"{kind} in the {part}: {what}", argv, says=tensor)
            yield Command(f"{kind} in the {part}: lint", ["lint", bad], codes=(3,), says="Q23.*NaN|Q23.*infin")
    for tensor in ("b1", "b3", "w1_scale", "image_scale"):
        for kind, value in BAD.items():
            bad = f"q_{tensor}_{kind}.onnx"
            onnx.save(poisoned(made.model, tensor, value), folder / bad)
            for what, argv in (
                ("repair", ["repair", bad, "-o", "o.onnx"]),
                ("fp16", ["fp16", bad, "-o", "o.onnx"]),
                ("requantize", ["quantize", bad, "--requantize", "-o", "o.onnx"]),
                ("migrate", ["migrate", bad, "-o", "o.cache"]),
            ):
                yield Command(f"{kind} in {tensor} of Q/DQ: {what}", argv, says="NaN|infin|negative")
            yield Command(f"{kind} in {tensor} of Q/DQ: lint", ["lint", bad], codes=(3,))
    for tensor, value in (("w1_scale", 3e38), ("image_scale", 3e38), ("w1_scale", 1e37), ("image_scale", 1e37)):
        large = f"q_{tensor}_{value:g}.onnx"
        onnx.save(poisoned(made.model, tensor, value), folder / large)
        for what, argv in (
            ("repair", ["repair", large, "-o", "o.onnx"]),
            ("fp16", ["fp16", large, "-o", "o.onnx"]),
            ("requantize", ["quantize", large, "--requantize", "-o", "o.onnx"]),
            ("migrate", ["migrate", large, "-o", "o.cache"]),
        ):
            yield Command(f"{value:g} in {tensor}: {what}", argv, codes=(0, 2), check=no_bad_number("o.onnx"))
    onnx.save(poisoned(proto, "w1", HUGE), folder / "hugeweight.onnx")
    argv = ["quantize", "hugeweight.onnx", "--table", "any.json", "-o", "o.onnx"]
    yield Command("the largest float32 in a weight", argv, codes=(0, 2), check=no_bad_number("o.onnx"))

    # data
    for name in ("huge", "large", "nan", "inf"):
        argv = ["quantize", "m.onnx", "--table", "t.json", "--correct-bias", "--data", f"{name}.npy", "-o", "o.onnx"]
        check = no_bad_number("o.onnx")
        codes = (0, 2) if name == "large" else (2,)
        yield Command(f"bias correction on {name} values", argv, codes=codes, check=check)
        for algorithm in ("entropy", "minmax", "mse", "percentile-99.9", "auto"):
            for more in ([], ["--order-independent"]):
                argv = ["calibrate", "m.onnx", "--data", f"{name}.npy", "--algorithm", algorithm, *more, "-o", "o.json"]
                yield Command(f"{algorithm} {' '.join(more)} on {name} values", argv, codes=(0, 2))

    # masks: legitimate
    for form in MASKS:
        for kind, value in (("inf", -np.inf), ("lowest", -HUGE), ("1e38", -1e38), ("1e9", -1e9), ("1e4", -1e4)):
            model = f"{form}_{kind}.onnx"
            onnx.save(masked_attention(form, value), folder / model)
            np.save(folder / "tokens.npy", floats(8, 4, 16))
            tokens = ["--data", "tokens.npy"]
            for output in ("o.json", "o.cache", "o.flatbuffers", "o.npz"):
                for algorithm in ("entropy", "minmax", "mse", "percentile-99.9"):
                    more = ["--order-independent"] if output == "o.npz" else ["--algorithm", algorithm]
                    if output == "o.npz" and algorithm != "entropy":
                        continue
                    argv = ["calibrate", model, *tokens, *more, "--tensors", "all", "-o", output]
                    finite = (form, kind) not in {("where", "inf"), ("add", "inf")}
                    says = "" if finite else "masked.*(infin|left out)"
                    yield Command(f"mask {form} {kind} to {output}, {algorithm}", argv, codes=(0,), says=says)
            for what, argv in (
                ("fp16", ["fp16", model, "-o", "o.onnx"]),
                ("lint", ["lint", model]),
                ("check-data", ["check-data", model, *tokens, "--batch-size", "2"]),
                ("calibrate", ["calibrate", model, *tokens, "-o", "o.json"]),
            ):
                yield Command(f"mask {form} {kind}: {what}", argv, codes=(0,))

    # caches of scales at the ends of float32
    for name, bits in (
        ("max", "7f7fffff"),
        ("huge", "7e000000"),
        ("denormal", "1"),
        ("zero", "0"),
        ("inf", "7f800000"),
    ):
        (folder / f"{name}.cache").write_text(
            "TRT-8600-EntropyCalibration2\n" + "".join(f"{t}: {bits}\n" for t in made_amax())
        )
        for what, argv in (
            ("migrate", ["migrate", "m.onnx", "--table", f"{name}.cache", "-o", "o.onnx"]),
            ("quantize", ["quantize", "m.onnx", "--table", f"{name}.cache", "-o", "o.onnx"]),
            ("inspect", ["inspect", f"{name}.cache"]),
            ("flatbuffers", ["migrate", "m.onnx", "--table", f"{name}.cache", "-o", "o.flatbuffers"]),
        ):
            yield Command(f"cache of {name} scales: {what}", argv, codes=(0, 2), check=no_bad_number("o.onnx"))


def made_amax() -> dict[str, np.float32]:
    """Ranges of the tensors of `conv_net` that have Q/DQ."""
    return {name: np.float32(4) for name in ("image", "r", "t", "f")}
