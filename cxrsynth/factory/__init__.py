"""From a recipe to a dataset on disk: the only room that knows the order of the stages."""
