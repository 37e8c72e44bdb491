"""Roads of an activation on an accelerator: Triton kernels, or PyTorch operations."""
