"""How good a map is: one confusion matrix, the figures that come of it, areas corrected for errors. No torch here."""
