"""The harness: knows no single task or method by name."""
