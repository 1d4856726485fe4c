"""What the stores of a database are: schema strings, versions, the catalogue in the file, upgrades."""
