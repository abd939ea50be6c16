"""Turns the texts of cells into numbers, device categories, and keywords with their match types."""
