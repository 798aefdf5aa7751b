"""The numbered equations of the papers, as pure functions of tensors."""
