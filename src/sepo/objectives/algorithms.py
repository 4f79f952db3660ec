"""The table of published methods beside SEPO, by the names that `algorithm=` takes."""

from sepo.objectives.algorithm import Algorithm
from sepo.objectives.coupled_grpo import CoupledGRPO
from sepo.objectives.diffu_grpo import DiffuGRPO
from sepo.objectives.drakes import Drakes
from sepo.objectives.elite_replay import EliteReplay
from sepo.objectives.espo import Espo
from sepo.objectives.just_grpo import JustGRPO
from sepo.objectives.sdpo import Sdpo
from sepo.objectives.sepo_released import SepoReleased
from sepo.objectives.spg import Spg
from sepo.objectives.step_merge import StepMerge
from sepo.objectives.trace_rl import TraceRL
from sepo.objectives.trajectory_balance import TrajectoryBalance
from sepo.objectives.trajectory_pg import TrajectoryPG
from sepo.objectives.uni_grpo import UniGRPO
from sepo.objectives.vrpo import Vrpo
from sepo.objectives.wd1 import Wd1
from sepo.objectives.wdce import Wdce

ALGORITHMS: dict[str, type[Algorithm]] = {
    "trajectory_pg": TrajectoryPG,
    "step_merge": StepMerge,
    "trace_rl": TraceRL,
    "just_grpo": JustGRPO,
    "diffu_grpo": DiffuGRPO,
    "coupled_grpo": CoupledGRPO,
    "uni_grpo": UniGRPO,
    "wd1": Wd1,
    "espo": Espo,
    "spg": Spg,
    "vrpo": Vrpo,
    "sdpo": Sdpo,
    "wdce": Wdce,
    "trajectory_balance": TrajectoryBalance,
    "elite_replay": EliteReplay,
    "sepo_released": SepoReleased,
}
OF_SOFT_REWARDS: dict[str, type[Algorithm]] = {"drakes": Drakes}
"""Those that follow the gradient of a reward, their first option: an object, which a name does not bring."""
