"""What runs while turns and rates are measured. Each run returns the moment at which its code began, wall time."""

from __future__ import annotations

import time

from stepwell import RateLimit, queue, task

shared = queue("shared")
weighted = queue("weighted", key_weights={"heavy": 3})
bucket = queue("bucket", rate_limit=RateLimit(8, per="1s", burst=4))
sliding = queue("sliding", rate_limit=RateLimit(12, per="2s", window="sliding"))
by_key = queue("by-key", rate_limit_per_key=RateLimit(2, per="1s", burst=2))


@task(id="turn", queue=shared)
def turn() -> float:
    return time.time()
