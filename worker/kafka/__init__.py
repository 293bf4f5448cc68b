"""Kafka itself: the topics the worker needs, how to reach a broker, and an embedded one for development."""
