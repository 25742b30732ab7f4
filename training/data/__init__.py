"""From packages to a data set: what is drawn, what it is called, and who may see it."""
