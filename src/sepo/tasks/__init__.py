"""Tasks: what is pretrained, prompted, rewarded and measured. One file each; one of your own is a class like these."""

from sepo.tasks.base import Row, Task
from sepo.tasks.digits import Digits
from sepo.tasks.sudoku import Sudoku

TASKS: dict[str, type[Task]] = {"digits": Digits, "sudoku": Sudoku}

__all__ = ["TASKS", "Digits", "Row", "Sudoku", "Task"]
