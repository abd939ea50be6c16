"""State in Redis: it may be lost at any moment, which costs only repeated work or a figure."""
