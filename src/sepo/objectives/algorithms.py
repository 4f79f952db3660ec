"""The table of published methods beside SEPO, by the names that `algorithm=` takes."""

from sepo.objectives.algorithm import Algorithm
from sepo.objectives.espo import Espo

ALGORITHMS: dict[str, type[Algorithm]] = {
    "espo": Espo,
}
