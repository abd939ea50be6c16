"""The guard decides whether a result may be published on a channel: its configuration and its verdicts."""
