"""How a pipeline runs fast."""
