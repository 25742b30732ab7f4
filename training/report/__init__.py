"""What the weights are worth: tasks, figures, tables and the gate."""
