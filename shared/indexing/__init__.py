"""Writes prediction indexes: rows in key order, from sorted parts."""
