"""Definitions shared by both sides of the queue: errors, messages, files and settings. Imports no other package of this project."""
