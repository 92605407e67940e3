"""How each peer is set up and used, by its documentation; each module has one class `ThePeer`."""
