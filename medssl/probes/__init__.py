"""Small models on frozen features that ask what a representation knows: the age, the site."""
