"""`python -m benchmark.cli`, without the installed command."""

from benchmark.cli import main

main()
