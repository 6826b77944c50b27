"""All that the author of a method or a task imports."""

from benchmark.arrays import ArrayTask
from benchmark.assets.packages import fetch_sdist, missing_packages
from benchmark.assets.pinned import Pinned
from benchmark.base.errors import NotAvailable, W2SError
from benchmark.base.seeding import numpy_rng
from benchmark.core.data import Domain
from benchmark.core.inputs import Inputs, Lazy, Prompted
from benchmark.core.method import (
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
from benchmark.core.registry import register_method, register_task
from benchmark.core.stress_variants import stress_variants
from benchmark.core.task import Encoder, Model, Supervisor, TaskCard, WeakModel
from benchmark.students.frozen import EncodedTask as Task

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
