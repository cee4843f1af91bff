"""Volumes: arrays that know their place, read, written, resampled and scaled."""
