"""Notices: composing, delivering and retrying."""
