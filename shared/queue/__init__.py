"""The state and protocol in Redis that producers and workers share."""
