"""What both sides of the queue agree on: words, messages, files and settings. Imports nothing of ours."""
