"""Tests of the bytes, in and out."""
