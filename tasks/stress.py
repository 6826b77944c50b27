"""One task of each modality whose supervisors are made worse, level by level."""

from benchmark.api import register_task, stress_variants
from tasks.digits import Digits
from tasks.preference import Preference
from tasks.sentiment import Sentiment

for _base in (Digits("mnist"), Sentiment("amazon"), Preference("tweets")):
    for _variant in stress_variants(_base):
        register_task(_variant)
