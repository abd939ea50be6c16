"""Infers what each column of an export is for, and reads and writes roles files."""
