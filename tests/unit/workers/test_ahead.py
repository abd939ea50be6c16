"""Results come in the order of their items, a few are worked out ahead, and the first failure is raised."""

import threading

import pytest

from workers.ahead import THREADS, ahead


def test_results_come_in_the_order_of_the_items_whichever_is_done_first():
    second_done = threading.Event()

    def do(item):
        if item == 0:
            assert second_done.wait(10)
        if item == 1:
            second_done.set()
        return item * 10

    assert list(ahead(do, range(50))) == [item * 10 for item in range(50)]


def test_no_more_than_a_few_are_worked_out_before_they_are_taken():
    begun = []
    results = ahead(lambda item: begun.append(item) or item, range(1000))
    assert next(results) == 0
    assert len(begun) <= THREADS + 1
    results.close()
    assert len(begun) <= THREADS + 1


def test_the_first_failure_is_raised_where_its_result_would_be():
    def do(item):
        if item == 2:
            raise ValueError("two")
        return item

    results = ahead(do, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)


def test_nothing_gives_nothing():
    assert list(ahead(str, [])) == []
