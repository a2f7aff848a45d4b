"""Recipes: what one may say, how it is read, checked and turned into encoder, method, data and views."""
