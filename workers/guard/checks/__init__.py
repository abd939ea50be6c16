"""The checks of the guard: each is a function of a comparison that returns its findings."""
