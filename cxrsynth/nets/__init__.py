"""Networks: how they are built, read, saved and observed. Nothing here trains."""
