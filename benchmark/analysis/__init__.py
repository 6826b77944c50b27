"""Reads results: scores on resamples, intervals, ranks, the tidy table. Needs no torch."""
