"""The only SQL in the house: schema, migrations, named queries and one module per noun that returns model objects.

May import: telemetry and below, and the database driver. It decides nothing, opens no transaction, reads no clock.
The next query goes into `queries/<noun>.sql` with a function in `<noun>.py`; the next column into a migration.
"""
