"""Games between an encoder, a generator and a critic."""
