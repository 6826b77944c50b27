"""What JSON values are known by: one text of each, and its hash."""

import hashlib
import json
from typing import Any


def canonical(value: Any) -> str:
    """JSON; equal values have one text, whatever the order of their keys. Cached and published things depend on it."""
    return json.dumps(value, sort_keys=True)


def fingerprint(value: Any) -> str:
    """Hex SHA-256 of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
