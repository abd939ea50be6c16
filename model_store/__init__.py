"""Definitions, releases and their evaluation; knows neither side of the queue."""
