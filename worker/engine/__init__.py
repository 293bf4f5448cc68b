"""How batches move through Faust exactly once. Knows nothing of sessions."""
