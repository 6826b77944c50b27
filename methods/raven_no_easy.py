"""Ablation: RAVEN without easy phase."""

from dataclasses import dataclass

from benchmark.api import product_grid, register_method
from methods.raven import Raven


@register_method
@dataclass(eq=False)
class RavenNoEasy(Raven):
    """`raven` without the easy phase, so that weights are learned on all examples from the first epoch on.

    Source: ablation in Jeon, Sobotka, Choi and Brbić (2025), arXiv:2510.21332.
    """

    name = "raven_no_easy"
    version = 1
    title = "RAVEN without easy phase"
    ablation_of = "raven"
    grid = product_grid(eta=(1e-3,), learning_rate_times=(3,), epochs_times=(0.3,))

    easy_fraction: float = 0.0
