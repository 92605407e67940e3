"""How values, payloads and errors become bytes and come back: tagged JSON, never pickle.

`values` is the way in (encode, decode, dumps, loads, plain, register_type); `exceptions` does the same for what was
raised, `payload` for what crosses as opaque bytes, `failure` for errors that people and other languages read.
They may import errors, primitives and the standard library; msgspec and users' libraries only when they are used.
A new kind of value belongs beside its family: `standard`, `records`, or a module of its own listed in `foreign`.
"""
