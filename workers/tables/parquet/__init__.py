"""Tables as Parquet files: where they may be cut, and their rows."""
