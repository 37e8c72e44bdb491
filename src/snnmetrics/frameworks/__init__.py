"""Spiking neurons of the frameworks, and the arithmetic of their equations."""
