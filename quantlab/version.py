"""The version of quantlab and the name that the package index has it under: the build and every hint take them here."""

__version__ = "0.1.0"

DISTRIBUTION = "quantlab-trt"
"""What pip installs. `quantlab` is what is imported and typed; on the package index it is another project."""


def install_command(*extras: str) -> str:
    """The command that adds optional packages to an installed quantlab, for a hint."""
    return f"pip install '{DISTRIBUTION}[{','.join(extras)}]'"
