"""Figures, each with how many it is made of and a 95 % interval."""
