"""Claims runs and supervises the executor processes that run them: pool, limits, heartbeat, drain.

May import: client and below. Never sdk, executor or user code: those live in the child processes.
The next thing that happens around an attempt goes here; what happens inside one belongs to executor.
"""
