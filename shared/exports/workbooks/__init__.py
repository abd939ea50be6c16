"""Reads the sheets of Excel workbooks in a process of its own, with limits on memory and time."""
