"""Real radiographs from anywhere -> the same on-disk form that generation writes."""
