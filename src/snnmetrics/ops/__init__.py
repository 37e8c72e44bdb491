"""What a PyTorch call contracts: specifications, parsers, dense cost."""
