import pytest

from benchmark.api import NotAvailable
from tasks._vader import DOMAINS, RatedTexts, rated_texts


@pytest.fixture(scope="session")
def vader() -> dict[str, RatedTexts]:
    """The four text domains; fetched once into the user's cache."""
    try:
        return {domain: rated_texts(domain) for domain in DOMAINS}
    except NotAvailable as error:
        pytest.skip(f"needs a package index once: {error}")
