"""The guard: judges a result before it is published, by the sorted indexes of this result and of the one before.

``index`` makes and opens these indexes, ``judging`` compares two of them. It knows no job, no queue and no step of scoring.
"""
