"""What tables of people say, in one place for every reader: missing values, ages, people, encodings, absent files."""
