"""Reading and formatting of text: CSV lines, YAML, durations, and terminal output."""
