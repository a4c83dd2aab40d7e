"""What a classifier looks at besides the lesion."""
