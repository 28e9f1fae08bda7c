"""The page on PyTorch: its blocks marked `py` run one after the other, as they are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'torch' is not installed")

PAGE = Path(__file__).parents[2] / ".docs" / "pages" / "how-to" / "torch.md"


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore")
def test_page_runs_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"^```py\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(found) == 5
    names: dict[str, object] = {"__name__": "__main__"}
    for block in found:
        exec(compile(block, str(PAGE.name), "exec"), names)
    assert (tmp_path / "model.qdq.onnx").is_file()
    assert "module" in capsys.readouterr().out.splitlines()[0]
