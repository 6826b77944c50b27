"""Makes results: what is to be done, one unit, and who does it where."""
