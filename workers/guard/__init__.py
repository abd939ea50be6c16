"""The guard: judges a result before it is published, by the sorted indexes of this result and of the one before.

It knows no job, no queue and no step of scoring.
"""
