"""All that the author of a method or a task imports."""

from benchmark.arrays import ArrayTask
from benchmark.corruption import stress_variants
from benchmark.errors import NotAvailable, W2SError
from benchmark.fetch import fetch_sdist, missing_packages
from benchmark.inputs import Inputs, Lazy, Prompted
from benchmark.method import (
    Batch,
    Method,
    Supervision,
    Trainer,
    cross_entropy,
    hard,
    log_softmax,
    product_grid,
    safe_log,
)
from benchmark.pinned import Pinned
from benchmark.registry import register_method, register_task
from benchmark.scale import Scale
from benchmark.seeding import numpy_rng
from benchmark.task import Domain, Encoder, Model, Supervisor, Task, TaskCard, WeakModel

__all__ = [
    "ArrayTask",
    "Batch",
    "Domain",
    "Encoder",
    "Inputs",
    "Lazy",
    "Method",
    "Model",
    "NotAvailable",
    "Pinned",
    "Prompted",
    "Scale",
    "Supervision",
    "Supervisor",
    "Task",
    "TaskCard",
    "Trainer",
    "W2SError",
    "WeakModel",
    "cross_entropy",
    "fetch_sdist",
    "hard",
    "log_softmax",
    "missing_packages",
    "numpy_rng",
    "product_grid",
    "register_method",
    "register_task",
    "safe_log",
    "stress_variants",
]
