"""The guard: compares a result with the result that its channel has, and judges whether it may be published."""
