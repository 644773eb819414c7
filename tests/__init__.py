"""The tests of weft."""
