"""The contracts, and how a problem is made, trained on and scored."""
