"""Bytes to session types and back. Nothing here decides anything about a session."""
