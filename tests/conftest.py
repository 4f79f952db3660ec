"""What every test gets: one thread, so that numbers and timings do not depend on the machine's load."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
