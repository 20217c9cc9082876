"""A coordinator in a process of its own, which outlives the notebook's: started, talked to, and taken up again."""
