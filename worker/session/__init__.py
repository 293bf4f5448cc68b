"""The rules, pure: no Kafka, no clock, no I/O. Nothing here imports another room of this house."""
