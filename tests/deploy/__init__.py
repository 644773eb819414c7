"""The files that an operator deploys with, held against the code that they start."""
