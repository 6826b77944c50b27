"""Bootstrapping: a chain of students, each taught by the one before."""

from dataclasses import dataclass

from benchmark.api import Trainer, register_method
from methods.naive import Naive


@register_method
@dataclass(eq=False)
class Bootstrapping(Naive):
    """A chain of students: the first learns the supervisor's soft labels, CE(q_1, p_m), each later one the predictions
    of the one before on the train split, CE(q_i, q_{i-1}); the last is scored.

    Students grow: the task names the encoders from the weakest to the student's own. A task that names only one has a
    chain of two students on that encoder. Every student is trained for the full number of steps.

    Source: Burns, Izmailov, Kirchner, Baker, et al. (2023), "Weak-to-Strong Generalization", arXiv:2312.09390, where
    the chain consists of language models of growing size.
    """

    name = "bootstrapping"
    version = 1
    title = "Bootstrapping"
    citation = "Burns et al. 2023, arXiv:2312.09390"
    family = "self-reinforcing"

    def fit(self, trainer: Trainer) -> None:
        encoders = trainer.supervision.encoders
        first, *later = encoders if len(encoders) > 1 else encoders * 2
        trainer.fit(encoder=first)
        for encoder in later:
            trainer.fit(targets=trainer.predict(), encoder=encoder)
