"""Pure numerics, and the forms a saved model can take."""
