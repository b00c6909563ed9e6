"""A task written to a file, that every optimizer learns in a few steps, and a watch that counts."""

from small_races import LINE, written

from sooner.watch import Watch


def task_file(folder):
    """The path of the task's file, written to a folder."""
    return written(folder, LINE)


class Counts(Watch):
    """Remembers which runs have finished."""

    def __init__(self):
        self.done = []

    def finished(self, cell, data):
        self.done.append(cell.key)
