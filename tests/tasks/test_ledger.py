"""Accounts of four charts: what is read, and that no name is in two of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.api import NotAvailable
from benchmark.core.registry import TASKS
from tasks import ledger

SIZES = {"france": 647, "spain": 823, "belgium": 252, "ohada": 978}
CODES = st.from_regex(r"[1-7][0-9]{1,3}", fullmatch=True)
NAMES = st.sampled_from(["Banque", "banque", "Banque, caisse", "Autres", "Capital social", "Ventes", "Stocks", "..."])
CHARTS = st.fixed_dictionaries({c: st.lists(st.tuples(CODES, NAMES), max_size=8) for c in ledger.CHARTS})


@pytest.fixture(scope="module")
def domains():
    try:
        return ledger._domains()
    except NotAvailable as error:
        pytest.skip(f"needs a package index once: {error}")


@given(CHARTS)
def test_a_name_stands_once_in_one_class(charts):
    chosen = ledger.choose(charts)
    kept = [(ledger.key(name), code) for accounts in chosen.values() for code, name in accounts]
    assert len({k for k, _ in kept}) == len(kept)
    given_ = [(ledger.key(name), code[0]) for accounts in charts.values() for code, name in accounts]
    for chart, accounts in chosen.items():
        assert set(accounts) <= set(charts[chart])
    for found in {k for k, _ in given_}:
        assert (found in {k for k, _ in kept}) == (len({c for k, c in given_ if k == found}) == 1)


def test_files_are_read_as_they_are():
    record = '<record model="{}" id="x"><field name="name">{}</field><field name="code">{}</field></record>'
    rows = [("account.account.template", "Capital", "101"), ("account.account.template", "Capitaux", "1")]
    rows += [("account.account.template", "Hors bilan", "801"), ("account.account.type.template", "Type", "102")]
    rows += [("account.account.template", "Honoraires &amp; frais ", "6226")]
    xml = f"<tryton><data>{''.join(record.format(*row) for row in rows)}</data></tryton>"
    assert ledger.read_accounts(xml) == [("101", "Capital"), ("6226", "Honoraires & frais")]


def test_facts(domains):
    assert {name: len(d.labels) for name, d in domains.items()} == SIZES
    for name, d in domains.items():
        texts = d.load()
        assert len(texts) == len(d.labels) == len(d.groups)
        assert np.bincount(d.labels, minlength=7).min() >= (5 if name == "belgium" else 20)
    (found,) = {int(d.labels[i]) for d in domains.values() for i, t in enumerate(d.load()) if t == "Capital social"}
    assert ledger.CLASSES[found] == "equity and debt"


@pytest.mark.parametrize("target", ledger.TARGETS)
def test_supervisors_read_other_charts(target):
    task = TASKS[f"ledger-to-{target}"]
    supervisors = task.supervisors(0)
    assert target not in {domain for s in supervisors for domain in s.domains}
    assert {domain for s in supervisors for domain in s.domains} == set(task.card.sources)
    assert task.supervisors(3) == supervisors
