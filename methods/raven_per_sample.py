"""Ablation: RAVEN with per-sample weights."""

from dataclasses import dataclass

from benchmark.api import register_method
from methods.raven import Raven


@register_method
@dataclass(eq=False)
class RavenPerSample(Raven):
    """`raven` with weights (R, N, M), one vector for each train example.

    Source: ablation in Jeon, Sobotka, Choi and Brbić (2025), arXiv:2510.21332.
    """

    name = "raven_per_sample"
    version = 1
    title = "RAVEN with per-sample weights"
    ablation_of = "raven"

    per_sample: bool = True
