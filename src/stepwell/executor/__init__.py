"""The child process that imports user code and runs attempts: rewriting, the durable loop, the journal, suspension.

May import: sdk and below. It implements `sdk.runtime` and speaks to its worker through a pipe.
The next thing that happens inside an attempt goes here; what happens around one belongs to worker.
"""
