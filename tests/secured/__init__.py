"""The worker on a Kafka with logins, TLS and ACLs. No secret may be in anything it prints."""
