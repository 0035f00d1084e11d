"""Tasks and commits are cut by work."""

from __future__ import annotations

from ptec_udf.nightly.tasks import MAX_TASKS, CommitCursor, TaskPlan


def simulate(plan: TaskPlan, commit_seconds: float, n_slots: int, task_seconds: float = 38.0) -> list[int]:
    """Score a plan on a number of slots; return the number of tasks of each commit."""
    cursor = CommitCursor(plan, commit_seconds, min_tasks=2)
    sizes = []
    while (tasks := cursor.take()) is not None:
        cursor.done(tasks, seconds=-(-len(tasks) // n_slots) * task_seconds + 1.0)
        sizes.append(len(tasks))
    assert sum(sizes) == plan.n_tasks
    return sizes


class TestTaskPlan:
    def test_tasks_have_the_wanted_work(self) -> None:
        plan = TaskPlan({100: 50, 10: 500}, task_cost=1000)
        assert (plan.n_texts, plan.total, plan.n_tasks) == (550, 10_000, 10)
        assert plan.starts() == [(100, 0, 5000), (10, 5000, 5000)]

    def test_a_million_texts_make_few_files(self) -> None:
        plan = TaskPlan({115: 1_000_000}, task_cost=20_000)
        assert plan.n_tasks <= MAX_TASKS <= 2000


class TestCommits:
    def test_grow_with_the_cluster(self) -> None:
        plan = TaskPlan({115: 1_000_000}, task_cost=20_000)
        sizes = simulate(plan, commit_seconds=600, n_slots=200)
        assert sizes[0] == 2  # no number of slots is known
        assert len(sizes) <= 7
        assert max(sizes) > 200  # more than slots, so that a worker that joins gets work

    def test_of_one_slot_take_the_wanted_time(self) -> None:
        plan = TaskPlan({100: 100_000}, task_cost=20_000)
        sizes = simulate(plan, commit_seconds=600, n_slots=1)
        assert all(13 <= size <= 17 for size in sizes[4:-1])

    def test_none_after_a_stop(self) -> None:
        cursor = CommitCursor(TaskPlan({100: 1000}, task_cost=1000), 60, min_tasks=1)
        assert cursor.take() == range(1)
        cursor.stop()
        assert cursor.take() is None
