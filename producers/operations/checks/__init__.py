"""The checks of ``scoring doctor``, one function each: it yields findings."""
