"""Generalised cross-entropy with one supervisor."""

from dataclasses import dataclass

from benchmark.api import register_method
from methods.gce import Gce


@register_method
@dataclass(eq=False)
class SingleGce(Gce):
    """sum_c p_mc (1 - q_c^power) / power: `gce` with what single methods see, to compare with `naive`.

    Source: Zhang and Sabuncu (NeurIPS 2018), arXiv:1805.07836.
    """

    name = "single_gce"
    version = 1
    title = "Generalised cross-entropy, one supervisor"
    citation = "Zhang and Sabuncu 2018, arXiv:1805.07836"
    kind = "single"
