"""The check of a method's options."""

from benchmark.api import Method, W2SError


def expect(method: Method, **intervals: str) -> None:
    """Refuse options that lie outside of their intervals: `expect(self, rate="[0, inf)", forget="[0, 1) or None")`.

    NaN lies in none, infinity in none that ends in "inf)".

    Raises:
        W2SError: the message names the method, the option, the interval and what was found.
    """
    for option, interval in intervals.items():
        value, (ends, *none) = getattr(method, option), interval.split(" or ")
        if value is None and none:
            continue
        low, high = map(float, ends[1:-1].split(","))
        fits = low <= value <= high and (value != low or ends[0] == "[") and (value != high or ends[-1] == "]")
        if not fits:
            raise W2SError(f"{method.name}: expected {option} in {interval}, found {value}")
