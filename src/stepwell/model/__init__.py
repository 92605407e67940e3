"""The nouns as frozen dataclasses, and the pure decisions about them: facts in, decision out, no clock and no I/O.

May import: codec and below.
The next status or transition goes into `lifecycle`; the next noun gets a file of its own name.
"""
