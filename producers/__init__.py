"""Puts jobs on the queue and reads job folders; imports no pandas, no model, no worker."""
