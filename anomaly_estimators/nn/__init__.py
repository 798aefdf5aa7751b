"""Networks and layers as plain torch modules."""
