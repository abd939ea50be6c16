"""Turns the bytes of a text export into records: encoding, separator, lines."""
