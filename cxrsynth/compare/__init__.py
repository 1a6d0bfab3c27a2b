"""Is a synthetic dataset worth as much as a real one? Arms, seeds, intervals, tables, curves."""

from cxrsynth.compare.recipe import CompareRecipe, load
from cxrsynth.compare.report import write_report
from cxrsynth.compare.run import Outcome, compare, updates

__all__ = ["CompareRecipe", "Outcome", "compare", "load", "updates", "write_report"]
