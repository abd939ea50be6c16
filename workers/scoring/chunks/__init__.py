"""Scores one chunk: opens its rows, predicts their rates, isolates rows that kill, and writes its part."""
