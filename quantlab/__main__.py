"""`quantlab` and `python -m quantlab`. Ctrl-C is met before the command line is imported, which takes time."""

from __future__ import annotations

import sys

from quantlab.interruption import INTERRUPTED, exit_at_once, exit_with, raise_in_place, received


def main() -> None:
    """Entry point of the `quantlab` command."""
    exit_at_once()
    from quantlab.cli import run_command
    from quantlab.cli.streams import guard_streams, lost_output

    guard_streams()
    code = 1
    try:
        raise_in_place()
        code = run_command()
    except KeyboardInterrupt:  # between two lines of `run_command`
        code = received() or INTERRUPTED
    finally:
        exit_with(code)
    if problem := lost_output():
        sys.stderr.write(f"error: standard output cannot be written: {problem}\n")
        code = code or 2
    sys.exit(code)


if __name__ == "__main__":
    main()
