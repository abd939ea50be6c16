"""Tables as csv text: where it may be cut, and its rows."""
