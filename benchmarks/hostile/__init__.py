"""Hostile input against every public detector: cases drawn at random, and what must hold after each."""
