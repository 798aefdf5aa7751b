"""Tables 1 and 2 and figures 2, 4 and 5 of AnoDM (2019)."""
