"""`w2s` for which the miniature data sets are whole; its workers import this file too."""

from benchmark.cli import main
from support import miniature
from tasks import _wilds

_wilds.EXAMPLES = miniature.EXAMPLES

if __name__ == "__main__":
    main()
