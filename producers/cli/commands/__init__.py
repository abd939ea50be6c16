"""The commands of ``scoring``, one file per noun."""
