"""cxrsynth: a factory for labelled chest X-rays."""

__version__ = "0.1.0"
