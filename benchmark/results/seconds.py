"""What training costs in processor seconds: measured apart from results, whose records say the same on any machine.

`tests/bench/method_seconds.py` writes the file; it may lie in a suite's folder, and tables then show it.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from benchmark.base.errors import W2SError
from benchmark.core.records import Count, MethodName, Strict, TaskName
from benchmark.results.layout import SECONDS
from benchmark.results.lines import reason


class MethodSeconds(Strict):
    """How long each method trains alone, on one thread.

    Attributes:
        tasks: on which it was measured. repeats: of each measurement, of which the median counts.
        seconds: of one seed of one task, the mean over the tasks.
    """

    processor: str
    date: str
    tasks: tuple[TaskName, ...]
    repeats: Count
    seconds: dict[MethodName, Annotated[float, Field(gt=0)]]

    def relative(self, method: str, unit: str) -> float | None:
        """A method's over those of `unit`; None where one of them was not measured."""
        if not {method, unit} <= self.seconds.keys():
            return None
        return self.seconds[method] / self.seconds[unit]


def read_seconds(root: Path) -> MethodSeconds | None:
    """What lies in a suite's folder; None where nothing does.

    Raises:
        W2SError: it can't be read.
    """
    try:
        return MethodSeconds.model_validate_json((root / SECONDS).read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, OSError) as error:
        raise W2SError(f"{root / SECONDS}: {reason(error)}") from None
