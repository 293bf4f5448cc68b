"""What of the engine can be tested without a broker."""
