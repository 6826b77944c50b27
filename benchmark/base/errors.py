"""The one exception that users see."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class W2SError(Exception):
    """Something the user can mend: the message names the thing, what was found, what was expected.

    The command line prints the message as one line and exits with status 2.
    """


class NotAvailable(W2SError):
    """A data set, weight file or extra is not on this machine; the message holds the command that gets it."""


class MethodFailed(W2SError):
    """A method raised, or broke its contract; the other methods of its run can go on without it."""

    def __init__(self, method: str, what: str) -> None:
        super().__init__(f"method '{method}': {what}")
        self.method = method


class Vanished(W2SError):
    """A folder was removed or replaced while a run was writing there; nothing more is written."""


@contextmanager
def named_errors(what: str) -> Iterator[None]:
    """Whatever a plug-in's own code raises inside, `sys.exit` included, names `what`; out of GPU memory is no fault."""
    try:
        yield
    except W2SError:
        raise
    except (Exception, SystemExit) as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which need not be imported for this
            raise
        raise W2SError(f"{what}: {type(error).__name__}: {error}") from error


def unknown_name(kind: str, name: str, known: Iterable[str]) -> W2SError:
    """The error for a name that is not registered, with the nearest one that is."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known) or 'none'}"
    return W2SError(f"unknown {kind} '{name}': {hint}")
