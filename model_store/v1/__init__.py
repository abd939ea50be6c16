"""Weighted linear regression on the attributes and the device."""
