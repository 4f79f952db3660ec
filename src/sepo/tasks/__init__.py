"""Tasks: what is pretrained, prompted, rewarded and measured. One file each; one of your own is a class like these."""

from sepo.tasks.base import Row, Task
from sepo.tasks.digits import Digits
from sepo.tasks.ehrlich import EhrlichTask
from sepo.tasks.enhancer import Enhancer
from sepo.tasks.measured import Measured
from sepo.tasks.sudoku import Sudoku

TASKS: dict[str, type[Task]] = {
    "digits": Digits,
    "ehrlich": EhrlichTask,
    "enhancer": Enhancer,
    "sudoku": Sudoku,
    "measured": Measured,
}

__all__ = ["TASKS", "Digits", "EhrlichTask", "Enhancer", "Measured", "Row", "Sudoku", "Task"]
