"""Kafka itself, on real brokers: the embedded one, its topics, and what a connection finds out."""
