"""Drawing. matplotlib is imported in this folder only; no display and no global state is touched."""
