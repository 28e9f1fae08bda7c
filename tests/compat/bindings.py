"""The real Python bindings of TensorRT without TensorRT: for their classes, enums and signatures.

    python tests/compat/bindings.py FOLDER

downloads the wheels of the bindings (a few MB each) for this Python and gives each the three libraries it loads, stubs
that define what the bindings import and do nothing. Needs gcc and nm. Tests use them with QUANTLAB_TRT_BINDINGS=FOLDER.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

VERSIONS = {"10": "10.16.1.11", "11": "11.4.0.106"}
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")


def fetch(folder: Path) -> None:
    """`folder/10` and `folder/11`, each with `tensorrt_bindings/` and `lib*.so.N`."""
    for major, version in VERSIONS.items():
        target = folder / major
        if (target / "done").exists():
            continue
        target.mkdir(parents=True, exist_ok=True)
        package = f"tensorrt_cu13_bindings=={version}"
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(target)]
        subprocess.run([*pip, package], check=True)
        with zipfile.ZipFile(next(target.glob("*.whl"))) as wheel:
            wheel.extractall(target)
        build_stubs(target, major)
        (target / "done").touch()


def build_stubs(target: Path, major: str) -> None:
    """The libraries that the bindings load; all imported symbols stand in the first."""
    listing = subprocess.run(
        ["nm", "-D", "--undefined-only", str(target / "tensorrt_bindings" / "tensorrt.so")],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    rows = [line.split() for line in listing.splitlines()]
    known = ("Py", "_Py", "_ITM", "_Unwind", "_Z", "__")  # CPython, libgcc and libstdc++ have these
    names = [name for kind, name in rows if kind == "U" and "@" not in name and not name.startswith(known)]
    source = target / "stub.c"
    for position, library in enumerate(LIBRARIES):
        lines = [f"void* {name}(void) {{ return 0; }}" for name in names] if position == 0 else []
        source.write_text("\n".join([*lines, "static int unused = 0;"]) + "\n")
        name = f"lib{library}.so.{major}"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-w", "-o", str(target / name), f"-Wl,-soname,{name}", str(source)], check=True
        )
    source.unlink()


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
