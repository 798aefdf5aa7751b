"""Deep SAD's tables: Ruff et al., ICLR 2020, tables 3 to 6 and figure 5."""
