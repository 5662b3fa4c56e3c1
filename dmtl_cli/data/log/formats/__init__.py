"""What one file holds, row by row, in any format, from wherever it lies. Imports config and runs."""
