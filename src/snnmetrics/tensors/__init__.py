"""Kinds, events and exact sums of tensors, in one read of memory."""
