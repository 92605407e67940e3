"""What runs in a peer's interpreter: one measurement in one process. May import: the standard library, psycopg."""
