"""`python -m quantlab`."""

from quantlab.cli import main

main()
