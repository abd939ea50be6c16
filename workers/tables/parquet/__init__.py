"""Parquet tables: cutting them into chunks and reading their rows."""
