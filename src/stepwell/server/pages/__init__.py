"""Pages for people without an account: a token's page, reached by its signed link, with a form for the answer.

May import: the server's own modules, engine and below. No page needs JavaScript, loads anything, or sets a cookie.
From a token to a page: `readable` (its data as something to read), `fields` (the answer's JSON Schema as a form),
`submitted` (what was typed as an answer), `problems` (what is wrong with it), `rendering` (templates, headers).
"""
