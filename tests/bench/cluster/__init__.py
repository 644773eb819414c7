"""What several engines bring, and what choosing among them costs: `make bench-cluster`."""
