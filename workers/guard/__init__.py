"""The guard: judges a result before it is published, by the sorted indexes of this result and of the one before.

``features`` to ``part_index`` make the index of a chunk; ``merging`` and ``index_files`` join these into the index of a result. ``judging``
compares two of them. It knows no job, no queue and no step of scoring.
"""
