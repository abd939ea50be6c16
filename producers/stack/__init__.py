"""The stack on one machine: what ``scoring up`` starts, and what it keeps of it."""
