"""What every type of a parameter that names files can say of a value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem


class FileType(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic from click 8.2 on
    """A parameter that names a file or folder.

    Attributes:
        name: What the help calls it.
        kind: What a value becomes.
    """

    name = "path"
    kind: type = Path

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002
        """The value as given: nothing is looked at before all parameters are known.

        Args:
            value: What was typed.
            param: As click's.
            ctx: As click's.

        Returns:
            It, as a path or as text.
        """
        return self.kind(value)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Names of files, which the shell knows; click would offer nothing.

        Args:
            ctx: As click's.
            param: As click's.
            incomplete: What was typed so far.

        Returns:
            What lets the shell complete it as a file.
        """
        return [CompletionItem(incomplete, type="file")]

    def reads(self, value: Any) -> Iterator[Path]:  # noqa: ARG002
        """The files and folders that are read for a value."""
        return iter(())

    def read_if_asked(self, value: Any) -> Iterator[Path]:  # noqa: ARG002
        """Files that are read too, but take a look into others to be found."""
        return iter(())

    def writes(self, value: Any) -> Iterator[Path]:  # noqa: ARG002
        """The files that are written for a value."""
        return iter(())

    def repeats(self, value: Any) -> dict[Path, str]:  # noqa: ARG002
        """Those of them that may be an input: by which parameter they are read, in a run that is repeated."""
        return {}

    def keeps(self, value: Any) -> Iterator[Path]:  # noqa: ARG002
        """Folders whose files come and go: nothing else may lie there."""
        return iter(())

    def check(self, value: Any) -> None:  # noqa: ARG002
        """ConfigError if what it writes cannot be written."""
        return
