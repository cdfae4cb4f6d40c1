"""How the service behaves when something it needs is slow or gone."""
