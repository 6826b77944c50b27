"""The world that tests live in: made-up tasks and results, tiny models, fake servers, the command line."""

from pathlib import Path

SUPPORT = Path(__file__).parent
