"""Pages of Auto-Activate Users, and what the internet may reach."""
