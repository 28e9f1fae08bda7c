"""Drawing. matplotlib is imported in this folder only; no display and no global state is touched."""

import os

_BACKEND = os.environ.pop("MPLBACKEND", None)  # one that is not there fails the import; none is used
try:
    import matplotlib  # noqa: F401
finally:
    if _BACKEND is not None:
        os.environ["MPLBACKEND"] = _BACKEND
