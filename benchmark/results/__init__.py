"""One suite's folder of results: its layout, reading and writing."""
