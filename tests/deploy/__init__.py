"""What is in deploy/, judged without a cluster."""
