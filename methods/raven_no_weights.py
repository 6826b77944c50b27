"""Ablation: RAVEN without learned weights."""

from dataclasses import dataclass

from benchmark.api import product_grid, register_method
from methods.raven import Raven


@register_method
@dataclass(eq=False)
class RavenNoWeights(Raven):
    """`raven` with the weights fixed at 1/M, so that only the easy phase is left.

    Source: ablation in Jeon, Sobotka, Choi and Brbić (2025), arXiv:2510.21332.
    """

    name = "raven_no_weights"
    version = 1
    title = "RAVEN without learned weights"
    ablation_of = "raven"
    grid = product_grid(easy_fraction=(0.1, 0.3, 0.4), epochs_times=(0.3,))

    learn_weights: bool = False
