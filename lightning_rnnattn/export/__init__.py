"""Models in other formats: one module for each, with a function ``export(path, folder)``."""
