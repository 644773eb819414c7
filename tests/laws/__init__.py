"""Laws that hold for every registered merge method."""
