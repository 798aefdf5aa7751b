"""The tables and figures of the UaiNets paper."""
