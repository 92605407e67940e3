"""One file per verb, one transaction per verb: every change of a run's state happens here and nowhere else.

May import: storage and below.
The next verb starts as a row in `model/lifecycle.py`, then gets a file here of the same shape as its neighbours.
"""
