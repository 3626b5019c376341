"""The harness: scenarios in, records out, and the pure functions that read them."""
