"""The guard decides whether a result may be published on a channel: its configuration, its verdicts, and how two indexes are compared."""
