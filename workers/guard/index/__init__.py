"""Makes the index of a result: ``features`` to ``part_index`` that of a chunk, ``merging`` and ``index_files`` join these."""
