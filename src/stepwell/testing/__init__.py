"""For users' tests, and ours: run a task to its end in this process, and crash it after every checkpoint.

May import: sdk, executor and below.
The next harness goes here if users can run it on their own tasks; else it belongs to tests/.
"""
