"""The commands of `amgf`, a module for each thing that a person does."""
