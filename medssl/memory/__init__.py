"""What outlives a step: the teacher, the queue, the bank, the cluster labels.

Everything here is a registered buffer, counters too, so it is in the checkpoint by construction. It moves only
by an explicit call (``update``, ``push``, ``set``), once per optimiser step, and never receives gradient.
"""

from medssl.memory.assignments import Assignments, cluster
from medssl.memory.bank import Bank
from medssl.memory.ema import EMA
from medssl.memory.queue import Queue

__all__ = ["EMA", "Assignments", "Bank", "Queue", "cluster"]
