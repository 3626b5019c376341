"""Training that makes a model survive: recipes from YAML, one trainer."""
