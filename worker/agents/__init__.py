"""What happens to a batch of records: from the source's bytes to everything the batch changes."""
