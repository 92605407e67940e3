"""Small tools that have no idea what a run is: ids, clock, durations, backoff, test signals.

May import: the standard library and `stepwell.errors`.
The next one goes here if another project could use it as it stands; else it belongs to the floor that needs it.
"""
