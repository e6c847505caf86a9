"""What medicine knows beside the images: codes, rules with their citations."""
