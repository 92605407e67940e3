"""The API's client: requests built and replies read without I/O, and two thin shells around that, async and sync.

May import: protocol and below, and the HTTP client library.
The next call is a row in `protocol/operations.py`; it needs code here only if its reply needs more than decoding.
"""
