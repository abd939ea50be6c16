"""Explains the rate of one row: where it comes from, and why it is another one than before."""
