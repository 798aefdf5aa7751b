"""Settings of the whole suite."""

import os

# The workers of a parallel run share the cores: more threads than cores would wait for one another.
# Set before torch is imported, which reads it then.
os.environ.setdefault("OMP_NUM_THREADS", "1")
