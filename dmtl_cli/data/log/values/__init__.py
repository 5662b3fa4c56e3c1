"""Values of columns: their types, as numbers, hashed, made of others; where many are kept. Imports config and runs."""
