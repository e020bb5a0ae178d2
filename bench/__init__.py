"""The speed and scale measurements, and the districts and provider they measure with."""
