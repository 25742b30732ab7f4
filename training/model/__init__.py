"""From the data set to weights: towers, teacher, training, export."""
