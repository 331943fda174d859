"""Labels become rewards: rule rewards, reward models, calibration, normalisation, comparison of rewards."""
