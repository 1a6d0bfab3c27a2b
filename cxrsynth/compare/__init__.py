"""Is a synthetic dataset as useful for training as a real one? Arms, seeds, intervals, tables, curves."""

from cxrsynth.compare.check import keep_apart
from cxrsynth.compare.comparison import Outcome, compare, updates
from cxrsynth.compare.own_tests import add_tests
from cxrsynth.compare.recipe import CompareRecipe, load
from cxrsynth.compare.report import write_report

__all__ = ["CompareRecipe", "Outcome", "add_tests", "compare", "keep_apart", "load", "updates", "write_report"]
