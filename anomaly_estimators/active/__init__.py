"""Active detection: an expert audits a few rows a round, and the detector learns from the verdicts."""
