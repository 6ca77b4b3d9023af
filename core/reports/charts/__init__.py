"""Charts: one module for each kind of drawing; each chart is a card with its finding."""
