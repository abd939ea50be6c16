"""Training tables: read completely, with labels, and audited."""
