"""Trains the teacher: a classifier over the card's grades that reads query, item and behavior neighbors."""
