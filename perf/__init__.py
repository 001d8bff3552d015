"""Measurements of speed and of what training achieves; run by ``make bench``, never by the tests."""
