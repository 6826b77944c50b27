"""All that the author of a method or a task imports (`as`: to be imported from here)."""

from benchmark.arrays import ArrayTask as ArrayTask
from benchmark.assets.packages import fetch_sdist as fetch_sdist
from benchmark.assets.packages import fetch_wheel as fetch_wheel
from benchmark.assets.packages import missing_packages as missing_packages
from benchmark.assets.pinned import Pinned as Pinned
from benchmark.base.errors import NotAvailable as NotAvailable
from benchmark.base.errors import W2SError as W2SError
from benchmark.base.seeding import numpy_rng as numpy_rng
from benchmark.core.data import Domain as Domain
from benchmark.core.inputs import Inputs as Inputs
from benchmark.core.inputs import Lazy as Lazy
from benchmark.core.inputs import Prompted as Prompted
from benchmark.core.losses import cross_entropy as cross_entropy
from benchmark.core.losses import hard as hard
from benchmark.core.losses import log_softmax as log_softmax
from benchmark.core.losses import rows_at as rows_at
from benchmark.core.losses import safe_log as safe_log
from benchmark.core.method import Batch as Batch
from benchmark.core.method import Method as Method
from benchmark.core.method import Supervision as Supervision
from benchmark.core.method import Trainer as Trainer
from benchmark.core.method import product_grid as product_grid
from benchmark.core.names import Family as Family
from benchmark.core.registry import register_method as register_method
from benchmark.core.registry import register_task as register_task
from benchmark.core.stress_variants import stress_variants as stress_variants
from benchmark.core.task import Encoder as Encoder
from benchmark.core.task import Model as Model
from benchmark.core.task import Supervisor as Supervisor
from benchmark.core.task import TaskCard as TaskCard
from benchmark.core.task import WeakModel as WeakModel
from benchmark.students import frozen

Task = frozen.EncodedTask
