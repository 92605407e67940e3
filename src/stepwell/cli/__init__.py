"""The `stepwell` command: one file per command, its imports inside. The only place that knows both wings.

May import: everything.
The next command is a new file here and one line in `app`.
"""
