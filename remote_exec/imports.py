"""Where modules are looked for. Needs nothing that Python has not loaded itself: it comes before all else."""

import os
import sys


def working_folder_last() -> None:
    """`python -m` puts it in front of all: a `py_trees.py` in a home would be taken for what is installed.

    What is found nowhere else is found there all the same.
    """
    try:
        first = sys.path[:1] == [os.getcwd()]
    except OSError:  # it has been removed
        return
    if first:
        sys.path.append(sys.path.pop(0))
