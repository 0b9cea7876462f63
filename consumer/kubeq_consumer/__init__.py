"""The agent: the program on a node that claims attempts, stages their files in, runs them and stages results out."""
