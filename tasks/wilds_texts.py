"""Amazon reviews and CivilComments, of WILDS; the shift is the reviewer, or who is talked about."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from benchmark.api import Supervisor, TaskCard, register_task
from benchmark.encoders.minilm import MiniLM
from benchmark.inputs import Inputs
from benchmark.supervisors.tfidf import TfidfClassifier
from tasks._wilds import AMAZON, CIVILCOMMENTS, Index, open_dataset
from tasks._wilds_task import SUPERVISORS, WildsTask


class WildsTexts(WildsTask):
    """Texts, held in memory by `wilds` itself."""

    # --- PLACE FOR LANGUAGE MODELS: student and supervisors. Small stand-ins until they are here, so that all runs. ---

    encoder = MiniLM()
    _SIZE = 5000  # TF-IDF is not random: supervisors differ in the examples that they see

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        sources = self.card.sources * (SUPERVISORS // len(self.card.sources))
        return [Supervisor(TfidfClassifier(), (source,), size=self._SIZE) for source in sources]

    # --- END OF THE PLACE ---

    def inputs(self, rows: Index) -> tuple[Callable[[], Inputs], str]:
        """Texts; the hash is of the texts themselves."""
        dataset = open_dataset(self._data, self.root)
        texts = [dataset.get_input(row) for row in rows.tolist()]
        content = hashlib.sha256()
        for text in texts:
            content.update(f"{len(text)} {text}".encode("utf-8", "surrogatepass"))
        return lambda: texts, content.hexdigest()


_AMAZON = TaskCard(
    modality="text",
    shift="reviewers: 1,252 to others whom the supervisors have not seen",
    sources=(),
    target="",
    classes=("1 star", "2 stars", "3 stars", "4 stars", "5 stars"),
    metric="tenth_percentile_accuracy",
    licence="none given; its authors ask for research use only, so neither data nor what is made of them may be shared",
    citation="Ni, Li & McAuley 2019, Justifying Recommendations [...] and Fine-Grained Aspects; Koh et al. 2021, WILDS",
    requires="",
    size="539,502 reviews: train 245,502, test 100,050, id_test and id_val 46,950 each",
)
_CIVILCOMMENTS = TaskCard(
    modality="text",
    shift="who is mentioned: toxicity of comments, judged for each of eight identities (one distribution of comments)",
    sources=(),
    target="",
    classes=("not toxic", "toxic"),
    metric="worst_identity_accuracy",
    licence="CC0 1.0",
    citation="Borkan et al. 2019, Nuanced Metrics for Measuring Unintended Bias; Koh et al. 2021, WILDS",
    requires="",
    size="448,000 comments: train 269,038, test 133,782, val 45,180",
)

for _by_domain in (False, True):
    register_task(WildsTexts(AMAZON, _AMAZON, ("id_test", "id_val"), parts="reviewers", by_domain=_by_domain))
    register_task(
        WildsTexts(
            CIVILCOMMENTS,
            _CIVILCOMMENTS,
            ("val", "val"),
            parts="identities (gender and orientation, religion, race; comments that mention none are left out)",
            by_domain=_by_domain,
        )
    )
