"""What crosses a process border: requests, replies, frames, error codes, versions. The two wings meet only here.

May import: model and below.
The next API call is one row in `operations`; the next message between processes one struct in `frames`.
"""
