"""Benchmarks: one data set, one ground truth, one scorer, and many submissions."""
