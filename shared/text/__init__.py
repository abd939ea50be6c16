"""How text is read and shown: csv lines, YAML, durations, what a terminal may be given."""
