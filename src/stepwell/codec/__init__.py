"""Python values to bytes and back: tagged JSON for values, the envelope of payloads, exceptions as records.

May import: primitives, errors. The libraries whose types it knows are looked at only when they are already loaded.
The next type a checkpoint should carry goes into `values`; a new limit or envelope field into `payload`.
"""
