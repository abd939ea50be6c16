"""The checks of ``scoring doctor``: one generator of findings per subject."""
