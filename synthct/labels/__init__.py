"""What the numbers in a mask mean: labelling schemes, their detection, and remapping to MAISI."""
