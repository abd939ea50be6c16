"""Results come in the order of their items, a few are worked out ahead, and the first failure is raised."""

import threading

import pytest

from workers.concurrency import MOST_BYTES, ON_DISK, prefetch_each, run_concurrently


def test_results_come_in_the_order_of_the_items_whichever_is_done_first():
    second_done = threading.Event()

    def do(item):
        if item == 0:
            assert second_done.wait(10)
        if item == 1:
            second_done.set()
        return item * 10

    assert list(prefetch_each(do, range(50))) == [item * 10 for item in range(50)]


def test_no_more_than_a_few_are_worked_out_before_they_are_taken():
    begun = []
    results = prefetch_each(lambda item: begun.append(item) or item, range(1000))
    assert next(results) == 0
    assert len(begun) <= ON_DISK + 1
    results.close()
    assert len(begun) <= ON_DISK + 1


@pytest.mark.parametrize(("size", "begun_before_the_first_is_taken"), [(0, ON_DISK + 1), (MOST_BYTES // 2, 2), (2 * MOST_BYTES, 1)])
def test_of_large_items_fewer_are_worked_out_ahead(size, begun_before_the_first_is_taken):
    begun = []
    results = prefetch_each(lambda item: begun.append(item) or item, range(1000), size=lambda _: size)
    assert next(results) == 0
    assert len(begun) <= begun_before_the_first_is_taken
    assert list(results) == list(range(1, 1000))


def test_the_first_failure_is_raised_where_its_result_would_be():
    def do(item):
        if item == 2:
            raise ValueError("two")
        return item

    results = prefetch_each(do, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)


def test_nothing_gives_nothing():
    assert list(prefetch_each(str, [])) == []


@pytest.mark.parametrize("at_once", [1, 2, 9])
def test_what_is_found_side_by_side_is_reported_in_order_and_in_this_thread(at_once):
    reported, threads = [], set()

    def do(number, found):
        for step in range(number):
            found([(number, step)])
        return number * 10

    def tell(items):
        reported.extend(items)
        threads.add(threading.current_thread())

    assert run_concurrently(do, 6, tell, at_once) == [number * 10 for number in range(6)]
    assert reported == [(number, step) for number in range(6) for step in range(number)]
    assert threads == {threading.current_thread()}


def test_side_by_side_means_that_a_later_one_does_not_wait_for_the_end_of_an_earlier_one():
    second_done = threading.Event()

    def do(number, found):
        found([number])
        if number == 0:
            assert second_done.wait(10)
        else:
            second_done.set()

    reported = []
    run_concurrently(do, 2, reported.extend, 2)
    assert reported == [0, 1]


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_is_found_is_reported_before_its_finder_ends(at_once):
    reported = threading.Event()

    def do(_, found):
        found(["first"])
        assert reported.wait(10)

    run_concurrently(do, 2, lambda _: reported.set(), at_once)


@pytest.mark.parametrize("who", ["finder", "teller"])
def test_a_failure_stops_the_others_where_they_find_something(who):
    begun, found_by_others = [], []

    def do(number, found):
        begun.append(number)
        if number == 0:
            found(["something"])
            if who == "finder":
                raise ValueError("broken")
        while number:
            found(["more"])
            found_by_others.append(number)

    def tell(_):
        if who == "teller":
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run_concurrently(do, 9, tell, 3)
    assert set(begun) <= {0, 1, 2}


def test_none_side_by_side_are_none():
    assert run_concurrently(lambda *_: 1, 0, print, 3) == []
