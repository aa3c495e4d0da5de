"""Adapters for engines that train: each file is one engine's contract, and imports that engine only when it is used."""
