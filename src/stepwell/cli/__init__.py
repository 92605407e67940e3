"""The `stepwell` command: one file per command, with its imports inside the command. The only place that knows both wings.

May import: everything.
The next command is a new file here and one line in `app`.
"""
