"""The stack on one machine: its processes, and the launcher of ``scoring up``."""
