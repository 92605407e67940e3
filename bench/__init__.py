"""Stepwell and its peers, measured side by side: `make bench`.

`harness` runs inside each peer's own interpreter and needs only the standard library and psycopg; `peers` says how each
one is used; the rest sets up Postgres, Redis and environments, runs the rounds, prints, and writes docs/performance.md.
A new peer is one module in `peers` and one entry in `catalog.py`; a new workload is one function in
`harness/workloads.py` and one entry in `catalog.py`.
"""
