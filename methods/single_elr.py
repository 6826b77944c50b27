"""Early-learning regularisation with one supervisor."""

from dataclasses import dataclass

from benchmark.api import register_method
from methods.elr import Elr


@register_method
@dataclass(eq=False)
class SingleElr(Elr):
    """CE(q, p_m) + strength * log(1 - <r_i, q>): `elr` with what single methods see, to compare with `naive`.

    Source: Liu et al. (2020), arXiv:2007.00151.
    """

    name = "single_elr"
    version = 1
    title = "ELR, one supervisor"
    citation = "Liu et al. 2020, arXiv:2007.00151"
    kind = "single"
