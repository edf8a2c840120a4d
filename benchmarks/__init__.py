"""What is measured, against what. Each figure is a ratio of two things measured in the same run on the same input."""
