"""Installs what the project needs and is not there yet. Standard library only: it runs before anything is installed."""
