"""Boosted trees of LightGBM, evaluated 64 rows at a time with the digits of ``booster.predict``.

A definition wraps its booster once, ``model_store.trees.Trees(booster)``, and predicts with it as before.
"""

from model_store.trees.booster import Trees

__all__ = ["Trees"]
