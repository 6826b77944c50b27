"""Where a pack is: a folder, or a data set on a hub that is downloaded into the hub's own cache."""

import re
from pathlib import Path

from benchmark.assets.hub import snapshot
from benchmark.base.errors import NotAvailable, W2SError
from benchmark.base.paths import settings
from benchmark.packs.sheet import CARD, SHEET

_WANTED = (SHEET, CARD, "*/*.safetensors")
_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", re.ASCII)


def find_pack(argument: str) -> Path:
    """The folder that `--pack` names: an existing one, or else the data set `user/name[@revision]`.

    The data set is downloaded only when the user allowed it (`--download`); before that the hub's cache is looked into.

    Raises:
        NotAvailable: the data set is not on this machine, or cannot be downloaded.
        W2SError: it is neither a folder nor an id.
    """
    if Path(argument).is_dir():
        return Path(argument).absolute()
    match = _ID.fullmatch(argument)
    if match is None or argument.startswith("."):
        raise W2SError(f"--pack {argument}: no such folder, and no data-set id (user/name or user/name@revision)")
    try:
        return snapshot(match["name"], "dataset", _WANTED, match["revision"]).absolute()
    except W2SError:
        raise
    except Exception as error:  # the hub's own, the network's, or the disk's
        why = "is not on this machine; run with --download, or"
        if settings().download:
            said = " ".join(str(error).split()).split(". ")[0]
            why = f"could not be downloaded ({type(error).__name__}: {said});"
        what = f"no such folder, and the data set {why} download it elsewhere and give its folder"
        raise NotAvailable(f"--pack {argument}: {what}") from None
