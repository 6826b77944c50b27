"""`w2s` for which the miniature data sets are whole; its workers import this file too."""

import miniature

from benchmark.cli import main
from tasks import _wilds

_wilds.EXAMPLES = miniature.EXAMPLES

if __name__ == "__main__":
    main()
