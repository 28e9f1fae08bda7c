"""Reading files with clear errors, and writing them whole or not at all, alone or as a set.

A result is written to a temporary name in the folder of its file, brought to the disk, then renamed. What is written
inside `together` is a set: its files appear together or not at all, see
`quantlab.files.settling`.
"""

from quantlab.files.locks import locked
from quantlab.files.names import is_folder, is_there
from quantlab.files.places import (
    check_folder,
    check_output,
    check_outputs,
    check_writable,
    is_same_file,
    make_folder,
)
from quantlab.files.reading import is_file, read_bytes, read_text, read_together, text_of
from quantlab.files.sets import together
from quantlab.files.settling import settle
from quantlab.files.sweeping import scratch_folder
from quantlab.files.writing import open_output, remove, write_bytes, write_text

__all__ = [
    "check_folder",
    "check_output",
    "check_outputs",
    "check_writable",
    "is_file",
    "is_folder",
    "is_same_file",
    "is_there",
    "locked",
    "make_folder",
    "open_output",
    "read_bytes",
    "read_text",
    "read_together",
    "remove",
    "scratch_folder",
    "settle",
    "text_of",
    "together",
    "write_bytes",
    "write_text",
]
