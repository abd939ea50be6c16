"""The rates of rows: published, or computed with the release in use."""
