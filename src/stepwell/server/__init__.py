"""The HTTP API and the worker gateway: authentication, routes by noun, the WebSocket. Stateless, any number of them.

May import: services, engine and below. Never the client wing, never user code.
The next call is a row in `protocol/operations.py` and a handler in `routes/<noun>.py`.
"""
