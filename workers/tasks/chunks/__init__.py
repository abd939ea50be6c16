"""What the tasks of a score job do with a queue: sending chunks, scoring after crashes, loading a release alone, marking progress."""
