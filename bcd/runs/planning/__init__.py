"""What a training needs, chosen from data and hardware."""
