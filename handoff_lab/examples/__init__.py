"""Whole pipelines to run, read and copy from."""
