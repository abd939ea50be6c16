"""Csv tables: cutting their text into chunks and reading their rows."""
