"""Triton's own schema of configurations, which the package `tritonclient` has."""

from __future__ import annotations

import warnings
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from quantlab.errors import ConfigError, first_line
from quantlab.version import install_command

INSTALL = install_command("triton")


def schema() -> tuple[Any, str]:
    """The class of a configuration, and ''; or None, and why it cannot be had.

    The one file that is needed is loaded on its own: the package around it wants grpcio, which is no use here.
    """
    try:
        package = find_spec("tritonclient.grpc")
    except (ImportError, ValueError):  # ValueError: something is called so that is no package
        package = None
    folders = package.submodule_search_locations if package is not None else None
    if not folders:
        return None, f"tritonclient is not installed ({INSTALL})"
    try:
        spec = spec_from_file_location("quantlab_triton_model_config", Path(folders[0]) / "model_config_pb2.py")
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # protobuf warns of code that the release before it has made
            spec.loader.exec_module(module)
        return module.ModelConfig, ""
    except Exception as error:  # protobuf refuses code of another release with exceptions of its own
        return None, f"the schema of tritonclient cannot be used: {first_line(error)}"


def validate(text: str, message_class: Any) -> Any:
    """Read a configuration as Triton does.

    Args:
        text: Of a config.pbtxt.
        message_class: Of `schema`.

    Returns:
        The message.

    Raises:
        ConfigError: A field or a type is not in the schema.
    """
    try:
        return text_format.Parse(text, message_class())
    except text_format.ParseError as error:
        raise ConfigError(
            f"Triton's schema refuses the configuration: {error}", hint="another release of tritonclient may know it"
        ) from error
