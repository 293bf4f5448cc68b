"""The comparisons of `verify`, without Kafka."""
