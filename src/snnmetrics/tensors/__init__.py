"""What is in a tensor: kinds, events and exact sums, in one read."""
