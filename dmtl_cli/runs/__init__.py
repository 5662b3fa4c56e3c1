"""What every command starts from and publishes: workspace, manifests, locks, logs, ranks. Imports config."""
