"""The words that users write: task, step, queue, sleep, checkpoint, ctx. `runtime` is the one port to an executor.

May import: client and below.
The next word gets a module of its own here, and if it needs a running attempt, a method on the port in `runtime`.
"""
