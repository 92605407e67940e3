"""The duties that time does: loops that call engine verbs when something is due, each one file on one contract.

May import: engine and below.
The next duty is a new file here; what it does to a run is a verb in engine.
"""
