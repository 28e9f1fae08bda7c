"""Running a user's .py file: what it raises, where, and what is left behind. Data scripts and metrics share this."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from quantlab.data.python_file import PythonFile, run_python_file, split_python
from quantlab.errors import ConfigError, DataError, QuantlabError


def file(folder: Path, body: str) -> Path:
    path = folder / "users.py"
    path.write_text(body)
    return path


def run(folder: Path, body: str) -> PythonFile:
    return run_python_file(file(folder, body), "metric")


@pytest.mark.parametrize(
    ("text", "default", "wanted"),
    [
        ("a/b.py:mine", "", ("a/b.py", "mine")),
        ("a/b.py:mine", "load", ("a/b.py", "mine")),
        ("a/b.py", "load", ("a/b.py", "load")),
        ("a/b.py", "", None),
        ("C:/b.py:mine", "", ("C:/b.py", "mine")),
        ("b.py:größe", "", ("b.py", "größe")),
        ("b.py:", "load", None),
        ("b.py:1x", "load", None),
        ("b.py:a.b", "load", None),
        ("b.pyc:a", "load", None),
        (".py", "load", None),
        ("images", "load", None),
    ],
)
def test_text_is_split_into_file_and_name(text: str, default: str, wanted: tuple[str, str] | None) -> None:
    assert split_python(text, default) == (None if wanted is None else (Path(wanted[0]), wanted[1]))


def test_file_is_run_and_known_by_its_bytes(tmp_path: Path) -> None:
    body = "x = 3\n"
    ran = run(tmp_path, body)
    assert (ran.path, ran.sha256) == (tmp_path / "users.py", hashlib.sha256(body.encode()).hexdigest())
    assert (ran.named("x"), ran.module.__file__) == (3, str(tmp_path / "users.py"))
    with pytest.raises(ConfigError, match=r"users\.py has no 'y' Hint: name one that it has: .*users\.py:NAME"):
        ran.named("y")


def test_file_in_another_encoding_is_read_as_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "users.py"
    path.write_bytes("# -*- coding: latin-1 -*-\nname = 'grün'\n".encode("latin-1"))
    assert run_python_file(path, "metric").named("name") == "grün"


def test_missing_file_and_folder_raise(tmp_path: Path) -> None:
    for path in (tmp_path / "none.py", tmp_path):
        with pytest.raises(
            DataError, match=r"metric .* does not exist or is no file Hint: give file.py or file.py:NAME"
        ):
            run_python_file(path, "metric")


FAILURES: list[tuple[str, type[BaseException], str]] = [
    ("raise ValueError('broken')", ValueError, "ValueError: broken"),
    ("raise SystemExit(3)", SystemExit, "SystemExit: 3"),
    ("import sys; sys.exit('stop')", SystemExit, "SystemExit: stop"),
    ("raise SystemExit", SystemExit, "SystemExit"),
    ("assert False, 'no'", AssertionError, "AssertionError: no"),
    ("import no_such_module_at_all", ImportError, "ModuleNotFoundError: No module named"),
]


@pytest.mark.parametrize(("body", "cause", "match"), FAILURES)
def test_whatever_a_file_raises_is_a_data_error_with_line_and_cause(
    tmp_path: Path, body: str, cause: type[BaseException], match: str
) -> None:
    modules, path = set(sys.modules), list(sys.path)
    with pytest.raises(DataError, match=rf"users\.py, line 2: the metric raised {match}") as caught:
        run(tmp_path, f"x = 1\n{body}\n")
    assert isinstance(caught.value.__cause__, cause)
    assert caught.value.hint == "run the file by itself"
    assert (sys.path, {m for m in set(sys.modules) - modules if "quantlab" in m}) == (path, set())


@pytest.mark.parametrize(("body", "cause", "match"), FAILURES)
def test_whatever_a_function_of_the_file_raises_is_a_data_error_too(
    tmp_path: Path, body: str, cause: type[BaseException], match: str
) -> None:
    ran = run(tmp_path, f"def f():\n    {body}\n")
    with pytest.raises(DataError, match=rf"users\.py, line 2: f\(\) raised {match}") as caught:
        ran.call("f()", ran.named("f"))
    assert isinstance(caught.value.__cause__, cause)


def test_line_is_the_deepest_of_the_file_not_of_what_it_calls(tmp_path: Path) -> None:
    ran = run(tmp_path, "import json\n\ndef g():\n    json.loads('{')\n\ndef f():\n    g()\n")
    with pytest.raises(DataError, match=r"users\.py, line 4: f\(\) raised JSONDecodeError"):
        ran.call("f()", ran.named("f"))


def test_call_that_never_reaches_the_file_has_no_line(tmp_path: Path) -> None:
    ran = run(tmp_path, "def f(n):\n    pass\n")
    with pytest.raises(DataError, match=r"users\.py: f\(\) raised TypeError"):
        ran.call("f()", ran.named("f"))


@pytest.mark.parametrize(
    ("body", "line"),
    [("x = 1\ndef f(:\n", 2), ("def f():\nx = 1\n", 2), ("x = '\n", 1)],
    ids=["colon", "indent", "quote"],
)
def test_syntax_error_has_its_line(tmp_path: Path, body: str, line: int) -> None:
    with pytest.raises(DataError, match=rf"users\.py, line {line}: the metric raised (SyntaxError|IndentationError)"):
        run(tmp_path, body)


def test_syntax_error_of_another_file_is_at_the_line_that_imports_it(tmp_path: Path) -> None:
    (tmp_path / "beside_the_users_file.py").write_text("\n\n\ndef (:\n")
    with pytest.raises(DataError, match=r"users\.py, line 2: the metric raised SyntaxError"):
        run(tmp_path, "\nimport beside_the_users_file\n")


@pytest.mark.parametrize("kind", ["ConfigError", "DataError", "GraphError"])
def test_error_of_quantlab_passes_as_it_is(tmp_path: Path, kind: str) -> None:
    body = f"from quantlab.errors import {kind}\ndef f():\n    raise {kind}('as it is', hint='do this')\n"
    ran = run(tmp_path, body)
    with pytest.raises(QuantlabError, match="^as it is Hint: do this$") as caught:
        ran.call("f()", ran.named("f"))
    assert type(caught.value).__name__ == kind
    with pytest.raises(QuantlabError, match="^as it is Hint: do this$"):
        run(tmp_path, f"{body}f()\n")


@pytest.mark.parametrize("error", [StopIteration, KeyboardInterrupt])
def test_signals_that_are_no_failures_pass(tmp_path: Path, error: type[BaseException]) -> None:
    ran = run(tmp_path, f"def f():\n    raise {error.__name__}\n")
    with pytest.raises(error):
        ran.call("f()", ran.named("f"))


def test_folder_of_the_file_is_importable_while_it_runs_only(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    (tmp_path / "helper_of_the_file.py").write_text("SIZE = 4\n")
    request.addfinalizer(lambda: sys.modules.pop("helper_of_the_file", None))
    before = list(sys.path)
    assert run(tmp_path, "import sys\nfrom helper_of_the_file import SIZE\nPATH = list(sys.path)\n").named("SIZE") == 4
    assert sys.path == before


def test_path_that_the_file_itself_takes_away_is_no_error(tmp_path: Path) -> None:
    before = list(sys.path)
    run(tmp_path, "import sys\nsys.path.pop(0)\n")
    assert sys.path == before


def test_no_bytecode_is_left_and_none_is_read(tmp_path: Path) -> None:
    for value in (1, 2):  # within one second and of one size
        ran = run(tmp_path, f"x = {value}\n")
        assert ran.named("x") == value
    assert not (tmp_path / "__pycache__").exists()


def test_source_of_the_file_is_shown_in_tracebacks(tmp_path: Path) -> None:
    import inspect

    ran = run(tmp_path, "def f():\n    return 'here'\n")
    function: Callable[[], str] = ran.named("f")
    assert inspect.getsource(function) == "def f():\n    return 'here'\n"
