"""Count the operations of compiled models by adding reads of activations to their graphs."""
