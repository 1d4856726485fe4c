"""The tests of selfdb; how to run them stands in README.rst of this folder."""
