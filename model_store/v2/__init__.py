"""Boosted trees on the attributes and the device: conversions out of clicks."""
