"""Injected faults: jobs run on a real server and real workers while things are killed, cut, filled and emptied.

``worker`` is the workers' Celery application with traps in it, ``relays`` the network and the object store that can fail, ``stage`` the
server and workers that a run plays on and what must hold afterwards, ``watcher`` reads the channel all the time, ``faults`` what is done to
them, ``decisions`` adds results that are held, ``people`` what people type about them, and ``python -m
tests.acceptance.faults`` is the long form with its table.
"""
