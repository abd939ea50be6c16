"""Exports of advertising platforms as tables: their canonical text, which is cut and read like compressed csv."""
