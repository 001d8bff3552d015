"""Kedro datasets that kedro-datasets lacks: canonical tables, image stores, atomic JSON."""
