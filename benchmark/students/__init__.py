"""Students: what is trained by the harness."""
