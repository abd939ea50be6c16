"""Channels and held results for people: decisions, rollbacks, histories."""
