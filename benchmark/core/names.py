"""Names and numbers that all agree on who make results or read them."""

from __future__ import annotations

# names that no plug-in may take, and what they stand for
CANARIES = {
    "ground_truth": "the truth: the strong ceiling",
    "best_supervisor": "the supervisor that is best on pool-train (an oracle)",
    "random_supervision": "uniform random one-hot labels",
}
REFERENCES = {
    "mean_supervisor": "supervisors' mean score: the weak floor",
    "supervisor_ensemble": "the mean of the supervisors' soft labels, without a student",
    "majority_class": "the most frequent class of pool-train",
}
RESERVED = frozenset({*CANARIES, *REFERENCES})


CONDITIONS = ("ind", "ood")
GRID_SIZE = 8  # settings that every method may try (`w2s run --tune`): an equal budget
TIMES = ("learning_rate_times", "epochs_times")  # in a setting: multiples of the student's recipe in the suite
ENGINE_VERSION = 1  # raise when the same plan would give other predictions
