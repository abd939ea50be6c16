"""Storage: one interface, a folder or an object store behind it."""
