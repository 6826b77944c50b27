"""Weak models."""
