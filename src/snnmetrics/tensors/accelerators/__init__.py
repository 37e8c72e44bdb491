"""Readers of activations on an accelerator: Triton kernels, or PyTorch operations."""
