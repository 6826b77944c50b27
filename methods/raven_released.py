"""RAVEN with a released learning rate of its weights."""

from dataclasses import dataclass

from benchmark.api import product_grid, register_method
from methods.raven import Raven


@register_method
@dataclass(eq=False)
class RavenReleased(Raven):
    """`raven` with eta = 1e-3, taken literally, however many steps there are: what the authors release for iWildCam.

    Their other configurations have 0 (Camelyon17 and fMoW: weights are never learned) and 1e-4 (ImageNet-C). Steps
    here are fewer than there, so that weights may move little; `raven` has this project's inference in its place.

    Source: configurations released with Jeon, Sobotka, Choi and Brbić (NeurIPS 2025), arXiv:2510.21332.
    """

    name = "raven_released"
    version = 1
    title = "RAVEN (released eta 1e-3)"
    grid = product_grid(eta=(1e-4,), easy_fraction=(0.4,), epochs_times=(0.3,))

    eta: float | None = 1e-3
