"""Whole lives of proposals, from intake to roll-back, as their users live them: beside the background traffic.

Lives begin at a rate of their own (open loop); the steps of one life follow each other, as they must. What a life
does is drawn from the run's seed before it begins (``chaos.lives.plot``).
"""

from chaos.lives.generator import Lives

__all__ = ["Lives"]
