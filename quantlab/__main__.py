"""`quantlab` and `python -m quantlab`. Ctrl-C is met before the command line is imported, which takes time."""

from __future__ import annotations

import os
import sys

from quantlab.interruption import INTERRUPTED, UNFINISHED, exit_at_once, exit_with, raise_in_place, received

if __name__ == "__main__" or os.path.basename(sys.argv[0]).split(".")[0] == "quantlab":  # noqa: PTH119  not in time
    exit_at_once()  # the script of the installed program does more before it calls `main`


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
        if problem := lost_output():
            sys.stderr.write(f"error: standard output cannot be written: {problem}\n")
            code = code or 2
    except KeyboardInterrupt:  # between two lines of `run_command`, or while nobody reads what it prints
        printed, code = code == received(), received() or INTERRUPTED
        if not printed:
            sys.stderr.write(f"{UNFINISHED}\n")
    finally:
        exit_with(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
