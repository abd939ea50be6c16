"""A process that turns to another kind of work drops what the earlier kind cached."""

from workers.runtime import work_caches
from workers.runtime.work_caches import drop_caches_of_other_work, register_cache


def test_only_the_caches_of_other_work_are_dropped(monkeypatch):
    monkeypatch.setattr(work_caches, "_caches", {})
    dropped = []
    register_cache("search", lambda: dropped.append("search"))
    register_cache("score", lambda: dropped.append("score"))
    drop_caches_of_other_work("score")
    assert dropped == ["search"]
    drop_caches_of_other_work("fit")
    assert dropped == ["search", "search", "score"]


def test_a_worker_registers_the_table_of_a_search():
    import workers.tasks.train  # noqa: F401 - as a worker does at its start
    from workers.training.search import steps

    assert work_caches._caches["search"] == steps.forget_table
