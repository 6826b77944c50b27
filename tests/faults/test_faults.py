"""A short campaign on two tasks of the smoke suite; `make faults` is the whole one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from campaign import ROWS, Row
from places import Campaign, campaign
from storage import CAN_NOT

from support.shared import shared

pytestmark = pytest.mark.faults
TASKS = ("sentiment-to-tweets", "preference-to-tweets-broken-1")
SHORT = [row for row in ROWS if row.short]


@pytest.fixture(scope="module")
def under_way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    def fill(folder: Path) -> None:
        with campaign(folder, TASKS):
            pass

    filled = shared(tmp_path_factory, "faults", fill) / "cache"
    with campaign(tmp_path_factory.mktemp("faults"), TASKS, filled) as found:
        yield found


@pytest.mark.parametrize("row", SHORT, ids=[row.title for row in SHORT])
def test_nothing_is_lost_doubled_torn_wrong_or_misreported(under_way: Campaign, row: Row) -> None:
    tally = row.tried(under_way, row.short)
    assert tally.clean, "\n".join(tally.notes)
    if CAN_NOT in tally.notes:
        pytest.skip(CAN_NOT)
    assert tally.faults >= row.short * row.faults
